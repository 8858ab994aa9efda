"""Stopping on a signal: any rank may receive it, all ranks stop after the same step."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
import torch.distributed as dist

from configs.support import stop_signals


class StopSignal:
    """Remembers that a stop signal came, and lets all ranks agree on the step to stop after.

    The agreement is a one-number all-reduce on the CPU, started after each step and read after the next one: no step
    waits for it, and the run stops at most one step later. As a context manager around the loop it completes the
    reduction that is under way.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        """Name of the signal; None before one came."""
        self._pending: dist.Work | None = None
        self._flag = torch.zeros(1, dtype=torch.int32)
        self._group = None
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            self._group = dist.new_group(backend="gloo")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside the block stop signals are remembered; previous handlers are restored afterwards.

        The block reaches beyond the loop, until everything is written: a signal must not kill the last checkpoint.
        """
        with stop_signals.handling(self._remember):
            yield

    def __enter__(self) -> "StopSignal":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pending is not None:
            self._pending.wait()
            self._pending = None

    def sync_should_stop(self) -> bool:
        """Whether all ranks stop after this step; every rank calls this once per step. Collective."""
        if self._group is None:
            return self.received is not None
        should_stop = False
        if self._pending is not None:
            self._pending.wait()
            should_stop = bool(self._flag.item())
        if should_stop:
            self._pending = None
            self.received = self.received or "a signal on another rank"
            return True
        self._flag = torch.tensor([self.received is not None], dtype=torch.int32)
        self._pending = dist.all_reduce(self._flag, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        return False

    def _remember(self, number: int, _: FrameType | None) -> None:
        self.received = signal.Signals(number).name
