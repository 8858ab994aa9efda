"""What a run writes down while it trains: one JSON line per event, TensorBoard, the progress line; rank 0 only."""

import json
import math
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import MachineError
from launch.runs.folder import RunFolder


class Tracker:
    """Writes events of rank 0; on other ranks every call does nothing.

    Images go through a queue to a thread, because drawing a grid takes longer than many a training step.
    """

    def __init__(self, folder: RunFolder, *, active: bool, tensorboard: bool, resumed_at: int = 0) -> None:
        self.active = active
        self.warnings: dict[str, str] = {}
        self.also: Callable[[dict[str, Any], int], None] | None = None
        """Where curves go besides TensorBoard."""
        self._board: Any = None
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=8)
        self._thread: threading.Thread | None = None
        if not active:
            return
        drop_events_after(folder.metrics_file, resumed_at)
        self._file = folder.metrics_file.open("a", encoding="utf-8")
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # slow to import: only where it writes

            self._board = SummaryWriter(str(folder.tensorboard), purge_step=resumed_at + 1 if resumed_at else None)
            self._thread = threading.Thread(target=self._draw, name="tensorboard-images", daemon=True)
            self._thread.start()

    @property
    def draws(self) -> bool:
        """Whether pictures go anywhere, so that nobody makes them for nothing."""
        return self._board is not None

    def event(self, kind: str, step: int, values: dict[str, Any], *, scalars: str = "") -> None:
        """One line in metrics.jsonl; with `scalars` also one TensorBoard curve per number, under that prefix."""
        if not self.active:
            return
        line = {"event": kind, "step": step, "time": round(time.time(), 3), **{k: _plain(v) for k, v in values.items()}}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if scalars:
            curves = {f"{scalars}/{name}": value for name, value in values.items()
                      if isinstance(value, int | float) and math.isfinite(value)}
            if self.also is not None:
                self.also(curves, step)
            if self._board is not None:
                for name, value in curves.items():
                    self._board.add_scalar(name, value, step)

    def images(self, name: str, picture_HWC: np.ndarray, step: int) -> None:
        """A picture, uint8 (H, W, 3), drawn off the training thread; dropped when the drawing falls behind."""
        if self._board is None:
            return
        try:
            self._queue.put_nowait((name, picture_HWC, step))
        except queue.Full:
            self.event("warning", step, {"message": f"picture {name} dropped: TensorBoard is slower than training"})

    def text(self, name: str, text: str) -> None:
        """A text shown in TensorBoard."""
        if self._board is not None:
            self._board.add_text(name, text)

    def say(self, message: str) -> None:
        """A line for the person watching."""
        if self.active:
            print(message, flush=True)

    def warn(self, name: str, message: str, step: int) -> None:
        """A warning for the person (once per name), the event log (every time) and the summary (the latest)."""
        if not self.active:
            return
        if name not in self.warnings:
            print(f"warning: {name}: {message}", file=sys.stderr, flush=True)
        self.warnings[name] = message
        self.event("warning", step, {"name": name, "message": message})

    def flush(self) -> None:
        """Have everything written so far on disk."""
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """Finish drawing and close the files."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        if self._board is not None:
            self._board.close()
            self._board = None
        if self.active:
            self._file.close()
            self.active = False

    def _draw(self) -> None:
        while (item := self._queue.get()) is not None:
            name, picture, step = item
            self._board.add_image(name, picture, step, dataformats="HWC")


def drop_events_after(file: Path, step: int) -> None:
    """Forget events a dead process wrote after the checkpoint that training resumes from, and half-written lines."""
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
    """The line printed while training: position, losses, images/s, share of time spent waiting for data, time left."""
    left = time.strftime("%H:%M:%S", time.gmtime(max(seconds_left, 0)))
    days = f"{int(seconds_left // 86400)}d " if seconds_left >= 86400 else ""
    share = f"{100 * step / steps:3.0f}%"
    return f"step {step}/{steps} {share}  {losses}  {rate:.1f} img/s  data wait {wait:.1%}  ETA {days}{left}"


def _plain(value: Any) -> Any:
    """A number JSON can hold: NaN and infinity become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
