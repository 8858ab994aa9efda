"""Checkpoints that a thread writes from a snapshot while training goes on, one at a time."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from quell.configs.errors import MachineError

POLL_S = 0.02

_FAILED = ".failed-"
"""Prefix of the note of a rank that could not write its file."""


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

    @property
    def failed(self) -> bool:
        """Whether the last write has failed, which `finish` will raise."""
        return self._error is not None

    def poll(self) -> None:
        """Finish a write that has succeeded; never waits and raises nothing."""
        if self._thread is not None and not self._thread.is_alive() and not self.failed:
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


def wait_for_files(files: list[Path], timeout_s: float) -> None:
    """Return when all files of one folder, which other ranks write, exist.

    Raises:
        MachineError: One did not appear within `timeout_s` seconds, or its rank left a note that it failed.
    """
    deadline = time.monotonic() + timeout_s
    while missing := [file for file in files if not file.exists()]:
        for note in sorted(missing[0].parent.glob(f"{_FAILED}*")):
            raise MachineError(note.read_text(encoding="utf-8", errors="replace") or f"{note.name} of the checkpoint")
        if time.monotonic() > deadline:
            raise MachineError(
                f"{missing[0].name} of the checkpoint in {missing[0].parent} did not appear within {timeout_s:.0f} s: "
                "all processes must share the run folder"
            )
        time.sleep(POLL_S)


def note_failure(folder: Path, rank: int, error: BaseException) -> None:
    """Leave a note for rank 0, which waits for this rank's file, as far as the disk allows."""
    try:
        temporary = folder / f".part-{rank}"
        temporary.write_text(f"rank {rank}: {error}", encoding="utf-8")
        temporary.replace(folder / f"{_FAILED}{rank}")
    except OSError:
        return  # rank 0 gives up when its time is over
