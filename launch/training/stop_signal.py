"""Stopping on a signal: any rank may be told, all ranks stop after the same step."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)


class Stop:
    """Remembers that a stop signal came and lets all ranks agree on the step to stop after.

    The agreement is a one-number reduction on the CPU, started after each step and read after the next one: it never
    makes a step wait, and the stop comes at most one step later. As a context around the loop it ends the reduction
    that is under way.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._pending: Any = None
        self._flag = torch.zeros(1, dtype=torch.int32)
        self._group = None
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            self._group = dist.new_group(backend="gloo")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside the block stop signals are remembered; what they did before comes back afterwards.

        The block reaches beyond the loop, until all is written and closed: a signal must not kill the last checkpoint.
        """
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def __enter__(self) -> "Stop":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pending is not None:
            self._pending.wait()
            self._pending = None

    def agreed(self) -> bool:
        """Whether all ranks stop after this step; every rank calls this once per step."""
        if self._group is None:
            return self.received is not None
        agreed = False
        if self._pending is not None:
            self._pending.wait()
            agreed = bool(self._flag.item())
        if agreed:
            self._pending = None
            self.received = self.received or "a signal on another rank"
            return True
        self._flag = torch.tensor([self.received is not None], dtype=torch.int32)
        self._pending = dist.all_reduce(self._flag, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        return False

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received = signal.Signals(number).name
