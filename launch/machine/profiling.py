"""A torch profiler trace of a few steps, for TensorBoard's profile plugin or chrome://tracing."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")


def profiled(batches: Iterator[T], steps: tuple[int, int] | None, folder: Path, *, worker: str) -> Iterator[T]:
    """Yield the same batches, and profile what is done with some of them.

    Args:
        batches: Global batches.
        steps: First batch to profile and the one after the last, counted from this process's first; None profiles none.
        folder: Where the trace is written.
        worker: Prefix of the trace's file name.
    """
    if steps is None:
        yield from batches
        return
    first, end = steps
    with torch.profiler.profile(
        schedule=torch.profiler.schedule(wait=max(first - 1, 0), warmup=min(first, 1), active=end - first, repeat=1),
        on_trace_ready=torch.profiler.tensorboard_trace_handler(str(folder), worker_name=worker),
    ) as profiler:
        for batch in batches:
            yield batch
            profiler.step()
