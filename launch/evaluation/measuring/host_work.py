"""Work on single images in threads of the host, beside what the device computes of batches."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType

import torch
from torch import Tensor

from quell.launch.data import loading
from quell.pipelines.base import Batch

Job = Callable[[], dict[str, float]]
"""Measures an image and returns values by name; runs in a thread."""

WAITING_PER_THREAD = 4
"""Jobs for each thread that may wait or run; each holds a batch of images in memory."""


@dataclass(frozen=True)
class HostImages:
    """A batch and what was restored from it, copied to the host when it is first asked for."""

    on_device: Batch
    restored_on_device: dict[str, Tensor]

    @cached_property
    def batch(self) -> Batch:
        """The batch."""
        return loading.to_device(self.on_device, torch.device("cpu"))

    @cached_property
    def restored(self) -> dict[str, Tensor]:
        """The restored images by output."""
        return {name: image.detach().cpu() for name, image in self.restored_on_device.items()}


class HostWork:
    """Threads that work on images; a context manager that waits for all of them, or for none after an error.

    An error of a job is raised by a later `add`, or at the end.
    """

    def __init__(self) -> None:
        self._threads = max(1, torch.get_num_threads())
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="quell-measure")
        self._waiting: deque[tuple[Future[dict[str, float]], dict[str, float]]] = deque()

    def __enter__(self) -> "HostWork":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            while self._waiting and error is None:
                self._take()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def add(self, job: Job, values: dict[str, float]) -> None:
        """Let a thread work, whose results are added to these values; waits while too much is to be done."""
        while len(self._waiting) >= WAITING_PER_THREAD * self._threads:
            self._take()
        self._waiting.append((self._pool.submit(job), values))

    def _take(self) -> None:
        future, values = self._waiting.popleft()
        values |= future.result()
