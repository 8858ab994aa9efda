"""Stopping on a signal or on Ctrl-C: any rank may receive it, all ranks stop after the same step."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
import torch.distributed as dist

from quell.configs.errors import EXIT_INTERRUPTED
from quell.configs.support import stop_signals

_GO_ON, _STOP, _KEYBOARD, _FAILED = range(4)
"""What a rank wants to happen after this step; the ranks agree on the highest."""

_HINT = b"\nstopping after this step, with a checkpoint; press Ctrl-C again to stop at once, without one\n"


class StopSignal:
    """Remembers that a stop signal came, and lets all ranks agree on the step to stop after.

    The agreement is a one-number all-reduce on the CPU, started after each step and read after the next one: no step
    waits for it, and the run stops at most one step later. As a context manager around the loop it completes the
    reduction that is under way.
    """

    def __init__(self) -> None:
        self.at_step: int | None = None
        """A step to stop at without any signal, the same on all ranks."""
        self.received: str | None = None
        """Name of the signal; None before one came."""
        self.by_keyboard = False
        """Whether the ranks stop because of Ctrl-C, on any of them."""
        self._pressed = False
        """Whether Ctrl-C was pressed here."""
        self._ends_process = True
        self._pending: dist.Work | None = None
        self._flag = torch.zeros(1, dtype=torch.int32)
        self._group = None
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            self._group = dist.new_group(backend="gloo")

    @contextmanager
    def listening(self, *, ends_process: bool = True) -> Iterator[None]:
        """Inside the block stop signals are remembered; previous handlers are restored afterwards.

        The block reaches beyond the loop, until everything is written: a signal must not kill the last checkpoint.
        Ctrl-C is remembered like the others, but ends the process at once when it is pressed again; in a program of the
        user's (`ends_process=False`) it then raises KeyboardInterrupt. Python handles signals in the main thread only:
        in other threads nothing is remembered.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._ends_process = ends_process
        with stop_signals.handling(self._remember):
            before = signal.getsignal(signal.SIGINT)
            if before is not signal.SIG_IGN:  # as in the background of a shell, where Ctrl-C is meant for others
                signal.signal(signal.SIGINT, self._on_keyboard)
            try:
                yield
            finally:
                signal.signal(signal.SIGINT, before)

    def __enter__(self) -> "StopSignal":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pending is not None:
            self._pending.wait()
            self._pending = None

    def is_reached(self, step: int) -> bool:
        """Whether the step to stop at is reached."""
        return self.at_step is not None and step >= self.at_step

    def sync_should_stop(self, *, step: int, failed: bool = False) -> bool:
        """Whether all ranks stop after this step; every rank calls this once per step. Collective.

        Args:
            step: Steps taken.
            failed: This rank cannot go on, and has an error to raise on all ranks once they have stopped.
        """
        if self.is_reached(step):
            return True
        wanted = _GO_ON if self.received is None else _KEYBOARD if self._pressed else _STOP
        wanted = _FAILED if failed else wanted
        if self._group is None:
            self.by_keyboard = wanted == _KEYBOARD
            return wanted != _GO_ON
        agreed = _GO_ON
        if self._pending is not None:
            self._pending.wait()
            agreed = int(self._flag.item())
        if agreed != _GO_ON:
            self._pending = None
            self.by_keyboard = agreed == _KEYBOARD
            self.received = self.received or "a signal on another rank"
            return True
        self._flag = torch.tensor([wanted], dtype=torch.int32)
        self._pending = dist.all_reduce(self._flag, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        return False

    def _remember(self, number: int, _: FrameType | None) -> None:
        self.received = signal.Signals(number).name

    def _on_keyboard(self, number: int, _: FrameType | None) -> None:
        if self._pressed:
            if not self._ends_process:
                raise KeyboardInterrupt
            # what is being written is safe to be killed at; unwinding would wait for it, or for another rank
            os._exit(EXIT_INTERRUPTED)
        self.received, self._pressed = signal.Signals(number).name, True
        if os.environ.get("RANK", "0") == "0":
            os.write(2, _HINT)  # print and logging may be what the signal interrupted
