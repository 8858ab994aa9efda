"""Checkpoints that a thread writes from a snapshot while training goes on, one at a time."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import torch

from configs.errors import MachineError

POLL_S = 0.02

T = TypeVar("T")


class AsyncWriter:
    """Runs one write at a time in a thread; its errors are raised in the training thread."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._on_done: Callable[[], None] = lambda: None

    def __enter__(self) -> "AsyncWriter":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.finish()
        elif self._thread is not None:
            self._thread.join()  # a complete checkpoint stays; the error already on its way is the one to show

    def start(self, write: Callable[[], None], on_done: Callable[[], None], *, wait: bool) -> None:
        """Finish the previous write, then call `write` in a thread.

        Args:
            write: Writes the checkpoint.
            on_done: Called in the training thread once the write has succeeded.
            wait: Return only when the write is done.
        """
        self.finish()
        self._on_done = on_done
        self._thread = threading.Thread(target=self._run, args=(write,), name="quell-checkpoint")
        self._thread.start()
        if wait:
            self.finish()

    def poll(self) -> None:
        """Finish a write that is done; never waits."""
        if self._thread is not None and not self._thread.is_alive():
            self.finish()

    def finish(self) -> None:
        """Wait until nothing is being written; raises what went wrong."""
        if self._thread is None:
            return
        self._thread.join()
        self._thread, error, self._error = None, self._error, None
        if error is not None:
            raise error
        self._on_done()

    def _run(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BaseException as error:
            self._error = error


def snapshot(value: T) -> T:
    """A copy that training does not change: tensors cloned on their device, containers copied, the rest as it is."""
    if isinstance(value, torch.Tensor):
        return cast(T, value.detach().clone())
    if isinstance(value, dict):
        return cast(T, {key: snapshot(inner) for key, inner in value.items()})
    if isinstance(value, list | tuple):
        return cast(T, type(value)(snapshot(inner) for inner in value))
    return value


def wait_for_files(files: list[Path], timeout_s: float) -> None:
    """Return when all files, which other ranks write, exist.

    Raises:
        MachineError: One did not appear within `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while missing := [file for file in files if not file.exists()]:
        if time.monotonic() > deadline:
            raise MachineError(
                f"{missing[0].name} of the checkpoint in {missing[0].parent} did not appear within {timeout_s:.0f} s: "
                "all processes must share the run folder"
            )
        time.sleep(POLL_S)
