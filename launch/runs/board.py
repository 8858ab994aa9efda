"""The TensorBoard file of a run: the curves of metrics.jsonl, and pictures and texts beside them.

Every point is in the file as soon as its line is in metrics.jsonl. When a run starts again, the file is made anew from
the log, so that both always show the same points, however the process before ended. Written without the thread of
torch's SummaryWriter, whose errors (a full disk) reach nobody.
"""

import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import image, text

from quell.configs.support.event_log import curves_of
from quell.configs.support.json_files import Record

PATTERN = "events.out.tfevents.*"
_UNFINISHED = ".rebuilding"
"""Name of a file until it has replaced those before it; TensorBoard does not read it."""
_VERSION = "brain.Event:2"
_LONGEST_RECORD = 1 << 28


class Board:
    """Writes one event file; safe from several threads. Every method raises OSError where the file cannot be written.

    Args:
        folder: Where the file is; created where it does not exist.
        events: The log so far, without what was logged after the checkpoint that the run continues from.
        resumed_at: The step of that checkpoint; 0 for a new start.
    """

    def __init__(self, folder: Path, events: Iterable[Record], resumed_at: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / PATTERN.replace("*", f"{int(time.time())}.{socket.gethostname()}")
        self._lock = threading.Lock()
        earlier = [*sorted(folder.glob(PATTERN)), *sorted(folder.glob(f"*{_UNFINISHED}"))]
        unfinished = folder / f"{time.time_ns()}{_UNFINISHED}"
        self._file: BinaryIO = unfinished.open("wb")
        self._records = RecordWriter(self._file)
        try:
            self._write(Event(wall_time=time.time(), file_version=_VERSION))
            for record in _pictures(earlier, resumed_at):
                self._records.write(record)
            for event in events:
                if curves := curves_of(event):
                    self._write(_scalars(curves, event["step"], event["time"]))
            self.flush()
            for file in earlier:
                file.unlink()
            self._file.close()  # Windows renames no open file
            unfinished.replace(self.path)
            self._file = self.path.open("ab")
            self._records = RecordWriter(self._file)
        except BaseException:
            with suppress(OSError):
                self._file.close()
            unfinished.unlink(missing_ok=True)
            raise

    def curves(self, event: Record) -> None:
        """Add the points of an event."""
        if curves := curves_of(event):
            with self._lock:
                self._write(_scalars(curves, event["step"], event["time"]))
                self._file.flush()

    def picture(self, name: str, picture_HWC: np.ndarray, step: int) -> None:
        """Add a picture, uint8 (H, W, 3)."""
        self._add(image(name, picture_HWC, dataformats="HWC"), step)

    def text(self, name: str, content: str) -> None:
        """Add a text."""
        self._add(text(name, content), 0)

    def flush(self) -> None:
        """Have everything in the file."""
        with self._lock:
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()

    def _add(self, summary: Summary, step: int) -> None:
        event = Event(wall_time=time.time(), step=step, summary=summary)
        with self._lock:
            self._write(event)
            self._file.flush()

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())


def _scalars(curves: dict[str, float], step: int, wall_time: float) -> Event:
    values = [Summary.Value(tag=name, simple_value=value) for name, value in curves.items()]
    return Event(wall_time=wall_time, step=step, summary=Summary(value=values))


def _pictures(files: list[Path], last_step: int) -> Iterator[bytes]:
    """The pictures and texts of earlier files up to a step, each once."""
    seen = set()
    for file in files:
        for record in _records(file):
            try:
                event = Event.FromString(record)
            except Exception:  # protobuf's own kind of error; the rest of the file may be intact
                continue
            values = [value for value in event.summary.value if value.WhichOneof("value") != "simple_value"]
            key = (event.step, tuple(value.tag for value in values))
            if values and event.step <= last_step and key not in seen:
                seen.add(key)
                yield Event(
                    wall_time=event.wall_time, step=event.step, summary=Summary(value=values)
                ).SerializeToString()


def _records(file: Path) -> Iterator[bytes]:
    """The records of an event file (length, checksum, content, checksum) up to the first that is cut off."""
    try:
        with file.open("rb") as opened:
            while len(header := opened.read(12)) == 12:
                (length,) = struct.unpack("<Q", header[:8])
                if length > _LONGEST_RECORD or len(record := opened.read(length)) < length:
                    return
                opened.read(4)
                yield record
    except OSError:
        return
