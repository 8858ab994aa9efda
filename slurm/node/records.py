"""The launcher's records of a task: when each start began and ended, and which rank failed first."""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypedDict, cast

from quell.configs.support.atomic_files import naming, write_atomically
from quell.configs.support.json_files import Record, read_json, read_json_lines
from quell.configs.support.run_status import read_summary

EVENTS_FILE = "attempts.jsonl"
_CHAIN_FILE = "chain.json"

Outcome = Literal["further", "fruitless", "interrupted", "killed"]
"""What a start came to: it saved a checkpoint; it ended by itself without one; SLURM ended it before it had saved one;
it was killed before it could record anything."""


class Event(TypedDict, total=False):
    """One line of a task's history; `event` and `time` are always there."""

    event: Literal["start", "stop", "end"]
    """A start began; it stopped and the job was requeued; the task ended for good."""
    time: float
    """Seconds since 1970."""
    job: str
    step: int
    """Step of the newest checkpoint at that time."""
    checkpoints: dict[str, int]
    """Of a start: when each complete checkpoint was written, in nanoseconds."""
    node: str
    code: int
    """Exit code."""
    outcome: Outcome
    """Of the end of a start: what it came to."""
    excluded: str
    """The node that the job avoids from now on, because it failed there."""
    signal: str | None
    """Name of the stop signal the job received."""
    reason: str


class _NodeFault(TypedDict, total=False):
    node_fault: str
    """What points to the node, if the job is to leave it for that; the rank itself sees to it."""


class Failure(_NodeFault):
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
    path = Path(folder) / EVENTS_FILE
    with naming(path), path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def history(folder: str | Path, job: str | None = None) -> list[Event]:
    """The task's events, oldest first; only those of one job if it is given."""
    events = [cast(Event, event) for event in read_json_lines(Path(folder) / EVENTS_FILE) if _is_event(event)]
    return [event for event in events if job is None or event["job"] == job]


def starts(folder: str | Path, job: str) -> list[Event]:
    """The starts of a job, oldest first."""
    return [event for event in history(folder, job) if event["event"] == "start"]


def since_last_start(events: Sequence[Event]) -> Sequence[Event]:
    """The last start among some events, and what came after it; empty before the first one."""
    starts = [index for index, event in enumerate(events) if event["event"] == "start"]
    return events[starts[-1] :] if starts else ()


def write_failure(folder: str | Path, failure: Failure) -> None:
    """Record that a rank failed."""
    file = Path(folder) / f"failure-{failure['rank']}.json"
    write_atomically(file, json.dumps(failure, indent=1) + "\n")


def first_failure(folder: str | Path, job: str) -> Failure | None:
    """The earliest failure among a job's ranks; later ones are usually its consequences."""
    failures = [read_json(file) for file in sorted(Path(folder).glob("failure-*.json"))]
    of_job = [cast(Failure, failure) for failure in failures if failure.get("job") == job and _is_failure(failure)]
    return min(of_job, key=lambda failure: failure["time"], default=None)


def clear_failures(folder: str | Path) -> None:
    """Remove the failures of earlier starts."""
    for file in Path(folder).glob("failure-*.json"):
        file.unlink(missing_ok=True)


def saved_step(run_dir: str | Path) -> int:
    """The step of the newest complete checkpoint; 0 before the first one."""
    return max((int(name.removeprefix("step-")) for name in checkpoints(run_dir)), default=0)


def checkpoints(run_dir: str | Path) -> dict[str, int]:
    """When each complete checkpoint of a run was written, in nanoseconds, by the name of its folder."""
    times = {}
    for file in Path(run_dir).glob("checkpoints/step-*/meta.json"):
        if file.parent.name.removeprefix("step-").isdecimal():
            with suppress(FileNotFoundError):  # replaced by a newer one meanwhile
                times[file.parent.name] = file.stat().st_mtime_ns
    return times


def write_chain(folder: str | Path, jobs: Sequence[str]) -> None:
    """Record the jobs that continue one another until the task is finished."""
    write_atomically(Path(folder) / _CHAIN_FILE, json.dumps(jobs) + "\n")


def chain(folder: str | Path, job: str) -> list[str]:
    """The jobs of the chain that a job belongs to, in order; only itself if it is not continued."""
    try:
        jobs = json.loads((Path(folder) / _CHAIN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return [job]
    return jobs if isinstance(jobs, list) and job in jobs else [job]


def summary(run_dir: str | Path) -> Record:
    """The run's own summary.json, `interrupted` where its process is gone; empty before it is written."""
    return read_summary(run_dir)


def _is_event(event: Record) -> bool:
    """Whether a line of a history has what its kind has; a damaged one is left out."""
    needed: dict[str, dict[str, type]] = {"start": {"step": int}, "stop": {}, "end": {"code": int, "reason": str}}
    fields = needed.get(str(event.get("event")))
    common: dict[str, type] = {"event": str, "job": str}
    return fields is not None and all(isinstance(event.get(key), kind) for key, kind in (common | fields).items())


def _is_failure(failure: Record) -> bool:
    """Whether a failure's file has all that is shown of it."""
    needed = {"rank": int, "node": str, "says": str, "time": int | float, "tail": list}
    return all(isinstance(failure.get(key), kind) for key, kind in needed.items())
