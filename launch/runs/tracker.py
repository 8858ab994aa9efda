"""What a run records while it trains: one JSON line per event, TensorBoard, and the console; rank 0 only."""

import contextlib
import json
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from quell.configs.errors import MachineError, machine_problem
from quell.configs.support.atomic_files import temporary_beside
from quell.configs.support.event_log import EventLog, count_of, curves_of, read_log
from quell.configs.support.json_files import Record
from quell.configs.support.logs import get_logger
from quell.configs.support.secrets import mask
from quell.launch.runs.folder import RunFolder

if TYPE_CHECKING:
    from quell.launch.runs.board import Board

log = get_logger(__name__)

Ending = Literal["finished", "stopped", "failed"]
"""How a run ended: at its length, with a checkpoint from which it can be continued, or with an error."""

_Picture = tuple[str, np.ndarray, int]
"""Name, uint8 (H, W, 3), step."""


class Outlet(Protocol):
    """Somewhere else to send the curves and pictures of a run."""

    def curves(self, values: dict[str, float], step: int) -> None:
        """Take the numbers of a step."""

    def picture(self, name: str, picture_HWC: np.ndarray, step: int) -> None:
        """Take a picture, uint8 (H, W, 3)."""

    def new_problems(self) -> list[tuple[str, str]]:
        """Names, and what has gone wrong there since the last call."""

    def close(self, patience_s: float, ending: Ending) -> None:
        """Send what is left, for about this many seconds at most, and how the run ended."""


class Tracker:
    """Records the events of rank 0; on other ranks every call does nothing.

    Images go through a queue to a thread, because encoding one takes longer than many a training step. metrics.jsonl is
    what counts: without it the run ends, whereas without TensorBoard it goes on, and the curves are made anew from the
    log at the next start.
    """

    def __init__(self, folder: RunFolder, *, active: bool, tensorboard: bool, resumed_at: int = 0) -> None:
        self.active = active
        self.warnings: dict[str, str] = {}
        """Latest message of every warning, by name."""
        self.also: Outlet | None = None
        """Where curves and pictures go besides TensorBoard."""
        self.events: Sequence[Record] = ()
        """The log so far."""
        self._path, self._board_folder = folder.metrics_file, folder.tensorboard
        self._board: Board | None = None
        self._board_error: OSError | None = None
        self._pictures: queue.Queue[_Picture | None] = queue.Queue(maxsize=8)
        self._thread: threading.Thread | None = None
        if not active:
            return
        content = keep_events_until(folder.metrics_file, resumed_at)
        with _log_errors(self._path):
            self._file = folder.metrics_file.open("a", encoding="utf-8")
        if content.damaged:
            message = f"{count_of(content.damaged)} of {self._path} moved to {damaged_file(self._path).name}"
            self.warning("damaged log", message, resumed_at)
        self.events = content.events
        if tensorboard:
            self._open_board(content.events, resumed_at)

    @property
    def draws(self) -> bool:
        """Whether pictures go anywhere, so that none are drawn for nothing."""
        return self._board is not None or (self.active and self.also is not None)

    def event(self, kind: str, step: int, values: Mapping[str, object]) -> None:
        """Append a line to metrics.jsonl, and its numbers to the curves where the kind has curves (`CURVES`).

        Raises:
            MachineError: The line cannot be written.
        """
        if not self.active:
            return
        line = {"event": kind, "step": step, "time": round(time.time(), 3), **{k: _plain(v) for k, v in values.items()}}
        with _log_errors(self._path):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        if self._board is not None:
            self._on_board(partial(self._board.curves, line))
        if self.also is not None and (curves := curves_of(line)):
            self.also.curves(curves, step)
            self._warn_of_trackers(step)

    def images(self, name: str, picture_HWC: np.ndarray, step: int) -> None:
        """Add a picture, uint8 (H, W, 3), without blocking training; it is dropped while TensorBoard falls behind."""
        if self.active and self.also is not None:
            self.also.picture(name, picture_HWC, step)
        if self._board is None:
            return
        try:
            self._pictures.put_nowait((name, picture_HWC, step))
        except queue.Full:
            self.event("warning", step, {"message": f"picture {name} dropped: TensorBoard is slower than training"})

    def text(self, name: str, text: str) -> None:
        """Add a text to TensorBoard."""
        if self._board is not None:
            self._on_board(partial(self._board.text, name, text))

    def info(self, message: str) -> None:
        """Log a line on the console."""
        if self.active:
            log.info("%s", message)

    def warning(self, name: str, message: str, step: int) -> None:
        """Warn on the console (once per name), in the event log (every time) and in the summary (the latest)."""
        if not self.active:
            return
        if name not in self.warnings:
            log.warning("%s: %s", name, message)
        self.warnings[name] = message
        self.event("warning", step, {"name": name, "message": message})

    def flush(self) -> None:
        """Have everything recorded so far on disk."""
        if self._board is not None:
            self._on_board(self._board.flush)

    def close(self, patience_s: float = 0.0, ending: Ending = "stopped") -> None:
        """Finish drawing, have the trackers finish within `patience_s` seconds, and close the files."""
        if self.active and self.also is not None:
            self.also.close(patience_s, ending)
            self._warn_of_trackers(0)
        if self._thread is not None:
            self._pictures.put(None)
            self._thread.join()
            self._thread = None
        if self._board is not None:
            self._on_board(self._board.close)
            self._board = None
        if self.active:
            self.active = False
            with contextlib.suppress(OSError):  # every line was flushed when it was written
                self._file.close()

    def _warn_of_trackers(self, step: int) -> None:
        for name, problem in self.also.new_problems() if self.also is not None else ():
            self.warning(name, problem, step)

    def _open_board(self, events: Sequence[Record], resumed_at: int) -> None:
        from quell.launch.runs.board import Board  # slow to import: only where it writes

        try:
            self._board = Board(self._board_folder, events, resumed_at)
        except OSError as error:
            self._give_up_board(error)
            return
        self._thread = threading.Thread(target=self._draw, name="tensorboard-images", daemon=True)
        self._thread.start()

    def _on_board(self, write: Callable[[], None]) -> None:
        """Write to TensorBoard; where that fails, or failed for a picture, warn and go on without it."""
        try:
            if self._board_error is None:
                write()
        except OSError as error:
            self._board_error = error
        if self._board_error is not None:
            self._give_up_board(self._board_error)

    def _give_up_board(self, error: OSError) -> None:
        board, self._board = self._board, None
        if board is not None:
            with contextlib.suppress(OSError):
                board.close()
        self.warning(
            "tensorboard",
            f"{self._board_folder} cannot be written ({error.strerror or error}): the run goes on without it, its "
            "curves are in metrics.jsonl and return with the next start",
            0,
        )

    def _draw(self) -> None:
        while (picture := self._pictures.get()) is not None:
            name, pixels, step = picture
            board = self._board
            if board is None or self._board_error is not None:
                continue
            try:
                board.picture(name, pixels, step)
            except (OSError, ValueError) as error:  # ValueError: the file was closed meanwhile
                self._board_error = error if isinstance(error, OSError) else self._board_error


def keep_events_until(file: Path, step: int) -> EventLog:
    """Remove from a log what a killed process logged after the checkpoint that training continues from.

    Damaged lines move to a file beside it.

    Returns:
        The log as it is now, and the damaged lines.

    Raises:
        MachineError: The log cannot be written.
    """
    if not file.exists():
        return EventLog([], [], [])
    if not file.is_file():
        raise MachineError(f"{file}: is not a file; remove it, and start the same command again")
    content = read_log(file)
    kept = [i for i, event in enumerate(content.events) if event["step"] <= step]
    lines = [content.lines[i] for i in kept]
    with _log_errors(file):
        if content.damaged:
            with damaged_file(file).open("ab") as aside:
                aside.write(b"".join(line + b"\n" for line in content.damaged))
        temporary = temporary_beside(file)
        temporary.write_bytes(b"".join(line + b"\n" for line in lines))
        temporary.replace(file)
    return EventLog([content.events[i] for i in kept], lines, content.damaged)


def damaged_file(file: Path) -> Path:
    """Where the damaged lines of a log are kept."""
    return file.with_suffix(f".damaged{file.suffix}")


@contextlib.contextmanager
def _log_errors(file: Path) -> Iterator[None]:
    """Turn errors of the disk in the block into one sentence that names the log."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(file)
        raise MachineError(machine_problem(error)) from error


def progress_line(step: int, steps: int, *, losses: str, rate: float, wait: float, seconds_left: float) -> str:
    """The line logged while training.

    Args:
        step: Optimizer steps taken.
        steps: Optimizer steps of the whole run.
        losses: The losses as text.
        rate: Images per second.
        wait: Share of the time spent waiting for data, 0 to 1.
        seconds_left: Estimated time to the end of the run.
    """
    left = time.strftime("%H:%M:%S", time.gmtime(max(seconds_left, 0)))
    days = f"{int(seconds_left // 86400)}d " if seconds_left >= 86400 else ""
    share = f"{100 * step / steps:3.0f}%"
    return f"step {step}/{steps} {share}  {losses}  {rate:.1f} img/s  data wait {wait:.1%}  ETA {days}{left}"


def _plain(value: object) -> object:
    """A value JSON can hold: NaN and infinity become null, and credentials in URLs are masked."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
