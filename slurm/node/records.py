"""The launcher's records of a task: when each start began and ended, and which rank failed first."""

import json
import time
from pathlib import Path
from typing import Literal, TypedDict, cast

from configs.support.json_files import Record, read_json, read_json_lines
from configs.support.run_status import read_summary

EVENTS_FILE = "attempts.jsonl"


class Event(TypedDict, total=False):
    """One line of a task's history; `event` and `time` are always there."""

    event: Literal["start", "stop", "end"]
    """A start began; it stopped and the job was requeued; the task ended for good."""
    time: float
    """Seconds since 1970."""
    job: str
    step: int
    """Step of the newest checkpoint at that time."""
    node: str
    code: int
    """Exit code."""
    signal: str | None
    """Name of the stop signal the job received."""
    reason: str


class Failure(TypedDict):
    """How a rank failed."""

    job: str
    rank: int
    node: str
    says: str
    """The exit in words."""
    time: float
    """Seconds since 1970."""
    tail: list[str]
    """The last lines of its stderr."""


def append_event(folder: str | Path, event: str, **values: object) -> None:
    """Append an event (see Event) to the task's history."""
    line = json.dumps({"event": event, "time": time.time(), **values})
    with (Path(folder) / EVENTS_FILE).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def history(folder: str | Path, job: str | None = None) -> list[Event]:
    """The task's events, oldest first; only those of one job if it is given."""
    events = cast(list[Event], read_json_lines(Path(folder) / EVENTS_FILE))
    return [event for event in events if job is None or event.get("job") == job]


def starts(folder: str | Path, job: str) -> list[Event]:
    """The starts of a job, oldest first."""
    return [event for event in history(folder, job) if event["event"] == "start"]


def write_failure(folder: str | Path, failure: Failure) -> None:
    """Record that a rank failed."""
    file = Path(folder) / f"failure-{failure['rank']}.json"
    file.write_text(json.dumps(failure, indent=1) + "\n", encoding="utf-8")


def first_failure(folder: str | Path, job: str) -> Failure | None:
    """The earliest failure among a job's ranks; later ones are usually its consequences."""
    failures = [read_json(file) for file in sorted(Path(folder).glob("failure-*.json"))]
    of_job = [cast(Failure, failure) for failure in failures if failure.get("job") == job]
    return min(of_job, key=lambda failure: failure["time"], default=None)


def clear_failures(folder: str | Path) -> None:
    """Remove the failures of earlier starts."""
    for file in Path(folder).glob("failure-*.json"):
        file.unlink(missing_ok=True)


def saved_step(run_dir: str | Path) -> int:
    """The step of the newest complete checkpoint; 0 before the first one."""
    complete = Path(run_dir).glob("checkpoints/step-*/meta.json")
    steps = (file.parent.name.removeprefix("step-") for file in complete)
    return max((int(step) for step in steps if step.isdecimal()), default=0)


def summary(run_dir: str | Path) -> Record:
    """The run's own summary.json, `interrupted` where its process is gone; empty before it is written."""
    return read_summary(run_dir)
