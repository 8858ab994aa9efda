"""What a run records while it trains: one JSON line per event, TensorBoard, and the console; rank 0 only."""

import json
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from configs.errors import MachineError
from configs.support.logs import get_logger
from launch.runs.folder import RunFolder

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = get_logger(__name__)

_Picture = tuple[str, np.ndarray, int]
"""Name, uint8 (H, W, 3), step."""


class Tracker:
    """Records the events of rank 0; on other ranks every call does nothing.

    Images go through a queue to a thread, because encoding one takes longer than many a training step.
    """

    def __init__(self, folder: RunFolder, *, active: bool, tensorboard: bool, resumed_at: int = 0) -> None:
        self.active = active
        self.warnings: dict[str, str] = {}
        """Latest message of every warning, by name."""
        self.also: Callable[[dict[str, float], int], None] | None = None
        """Where curves go besides TensorBoard."""
        self._board: SummaryWriter | None = None
        self._pictures: queue.Queue[_Picture | None] = queue.Queue(maxsize=8)
        self._thread: threading.Thread | None = None
        if not active:
            return
        drop_events_after(folder.metrics_file, resumed_at)
        self._file = folder.metrics_file.open("a", encoding="utf-8")
        if tensorboard:
            from torch.utils import tensorboard as board  # slow to import: only where it writes

            purge_step = resumed_at + 1 if resumed_at else None
            self._board = board.SummaryWriter(str(folder.tensorboard), purge_step=purge_step)
            self._thread = threading.Thread(target=self._draw, name="tensorboard-images", daemon=True)
            self._thread.start()

    @property
    def draws(self) -> bool:
        """Whether pictures go anywhere, so that none are drawn for nothing."""
        return self._board is not None

    def event(self, kind: str, step: int, values: Mapping[str, object], *, scalars: str = "") -> None:
        """Append a line to metrics.jsonl; with `scalars`, a prefix, also add one TensorBoard point per number."""
        if not self.active:
            return
        line = {"event": kind, "step": step, "time": round(time.time(), 3), **{k: _plain(v) for k, v in values.items()}}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if scalars:
            self._add_scalars(scalars, values, step)

    def images(self, name: str, picture_HWC: np.ndarray, step: int) -> None:
        """Add a picture, uint8 (H, W, 3), without blocking training; it is dropped while TensorBoard falls behind."""
        if self._board is None:
            return
        try:
            self._pictures.put_nowait((name, picture_HWC, step))
        except queue.Full:
            self.event("warning", step, {"message": f"picture {name} dropped: TensorBoard is slower than training"})

    def text(self, name: str, text: str) -> None:
        """Add a text to TensorBoard."""
        if self._board is not None:
            self._board.add_text(name, text)

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
            self._board.flush()

    def close(self) -> None:
        """Finish drawing and close the files."""
        if self._thread is not None:
            self._pictures.put(None)
            self._thread.join()
            self._thread = None
        if self._board is not None:
            self._board.close()
            self._board = None
        if self.active:
            self._file.close()
            self.active = False

    def _add_scalars(self, prefix: str, values: Mapping[str, object], step: int) -> None:
        curves = {
            f"{prefix}/{name}": value
            for name, value in values.items()
            if isinstance(value, int | float) and math.isfinite(value)
        }
        if self.also is not None:
            self.also(curves, step)
        if self._board is not None:
            for name, value in curves.items():
                self._board.add_scalar(name, value, step)

    def _draw(self) -> None:
        assert self._board is not None
        while (picture := self._pictures.get()) is not None:
            name, pixels, step = picture
            self._board.add_image(name, pixels, step, dataformats="HWC")


def drop_events_after(file: Path, step: int) -> None:
    """Remove events that a killed process logged after the checkpoint training resumes from, and half-written lines."""
    if not file.exists():
        return
    kept = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue  # the last line of a killed process
        if event["step"] <= step:
            kept.append(line)
    try:
        temporary = file.with_suffix(".tmp")
        temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        temporary.replace(file)
    except OSError as error:
        raise MachineError(f"cannot write {file} ({error.strerror}): make the run folder writable") from error


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
    """A value JSON can hold: NaN and infinity become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
