"""The event log of a run, metrics.jsonl: one JSON object a line, read so that no damage to it stops anybody.

A line counts if it is whole and says what happened, when, and at which step. Of a training or evaluation event, values
that are no numbers are left out. Damaged lines are left out and counted; that the last line is half written is usual
for a process that was killed.
"""

import math
from pathlib import Path
from typing import NamedTuple

from quell.configs.support.json_files import Record, parse_json
from quell.configs.support.logs import get_logger

CURVES = {"train": "train", "eval": "val"}
"""Events whose numbers are curves -> the prefix of their names in TensorBoard."""
LARGEST = 3.5e38
"""Numbers beyond float32 are damage: no run logs them."""

log = get_logger(__name__)


class EventLog(NamedTuple):
    """The content of a metrics.jsonl."""

    events: list[Record]
    lines: list[bytes]
    """The line of each event."""
    damaged: list[bytes]
    """Lines that are no events, but for a half-written last one."""


def read_log(file: Path, *, last_bytes: int | None = None) -> EventLog:
    """Read an event log; a missing or unreadable file has no lines.

    Args:
        file: metrics.jsonl.
        last_bytes: Read only this much of the file's end.
    """
    result = EventLog([], [], [])
    if file.exists() and not file.is_file():  # opening a pipe would wait for ever
        return result
    try:
        with file.open("rb") as opened:
            start = 0 if last_bytes is None else max(0, opened.seek(0, 2) - last_bytes)
            opened.seek(start)
            data = opened.read()
    except OSError:
        return result
    *lines, rest = data.split(b"\n")
    for number, line in enumerate([*lines, rest]):
        event = _event(line)
        if event is not None:
            result.events.append(event)
            result.lines.append(line)
        elif line.strip() and number < len(lines) and (number or not start):  # the first may be cut, the last half
            result.damaged.append(line)
    return result


def read_events(file: Path, *, last_bytes: int | None = None) -> list[Record]:
    """The events of a log in order; a warning says how many damaged lines were left out."""
    content = read_log(file, last_bytes=last_bytes)
    if content.damaged:
        log.warning("%s: left out %s", file, count_of(content.damaged))
    return content.events


def curves_of(event: Record) -> dict[str, float]:
    """Name in TensorBoard -> value of what an event adds to the curves; nothing for most kinds of events."""
    prefix = CURVES.get(event["event"])
    if prefix is None:
        return {}
    return {
        f"{prefix}/{name}": value
        for name, value in event.items()
        if name not in ("event", "step", "time") and isinstance(value, int | float) and math.isfinite(value)
    }


def count_of(damaged: list[bytes]) -> str:
    """`1 damaged line`, `3 damaged lines`."""
    return f"{len(damaged)} damaged line{'s' if len(damaged) > 1 else ''}"


def _event(line: bytes) -> Record | None:
    """The event of a line; None where it is damaged."""
    try:
        value = parse_json(line)
    except ValueError:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("event"), str):
        return None
    step, time = value.get("step"), value.get("time")
    if type(step) is not int or not 0 <= step < 2**53 or not _is_number(time) or time is None:
        return None
    if value["event"] in CURVES:
        return {key: item for key, item in value.items() if key == "event" or item is None or _is_number(item)}
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) <= LARGEST
