"""Checkpoints that are written while training goes on: from a snapshot, by a thread, one at a time."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from configs.errors import MachineError

POLL_S = 0.02


class Saver:
    """Runs one write at a time, beside the training thread, in which what goes wrong is raised."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._after: Callable[[], None] = lambda: None

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.settle()
        elif self._thread is not None:
            self._thread.join()  # what is complete stays; the error on its way is the one to be seen

    def run(self, write: Callable[[], None], after: Callable[[], None], *, wait: bool) -> None:
        """Call `write`, and when it is done `after`, the latter always in the training thread."""
        self.settle()
        self._after = after
        self._thread = threading.Thread(target=self._guarded, args=(write,), name="quell-checkpoint")
        self._thread.start()
        if wait:
            self.settle()

    def poll(self) -> None:
        """Finish a write that is done; never waits."""
        if self._thread is not None and not self._thread.is_alive():
            self.settle()

    def settle(self) -> None:
        """Wait until nothing is being written; raises what went wrong."""
        if self._thread is None:
            return
        self._thread.join()
        self._thread, error, self._error = None, self._error, None
        if error is not None:
            raise error
        self._after()

    def _guarded(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BaseException as error:
            self._error = error


def snapshot(value: Any) -> Any:
    """A copy that training will not change: tensors cloned where they are, containers copied, the rest as it is."""
    if torch.is_tensor(value):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: snapshot(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(snapshot(inner) for inner in value)
    return value


def wait_for(files: list[Path], timeout_s: float) -> None:
    """Return when all files are there, which other ranks write; MachineError when they do not come."""
    deadline = time.monotonic() + timeout_s
    while missing := [file for file in files if not file.exists()]:
        if time.monotonic() > deadline:
            raise MachineError(
                f"{missing[0].name} of the checkpoint in {missing[0].parent} did not appear "
                f"within {timeout_s:.0f} s: the run folder must be one that all processes share"
            )
        time.sleep(POLL_S)
