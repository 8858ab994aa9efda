"""What the launcher writes beside a run, and reading it: when each start began and ended, which rank failed first."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ATTEMPTS_FILE = "attempts.jsonl"


def note(folder: str | Path, event: str, **values: Any) -> None:
    """Add one line to the task's history: `start`, `stop` or `end`."""
    line = json.dumps({"event": event, "time": time.time(), **values})
    with (Path(folder) / ATTEMPTS_FILE).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def history(folder: str | Path, job: str | None = None) -> list[dict[str, Any]]:
    """The task's history, oldest first; of one job only when it is named."""
    events = lines(Path(folder) / ATTEMPTS_FILE)
    return [event for event in events if job is None or event.get("job") == job]


def write_failure(folder: str | Path, *, job: str, rank: int, node: str, says: str, at: float, tail: list[str]) -> None:
    """Leave a note that this rank failed."""
    values = {"job": job, "rank": rank, "node": node, "says": says, "time": at, "tail": tail}
    (Path(folder) / f"failure-{rank}.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def first_failure(folder: str | Path, job: str) -> dict[str, Any] | None:
    """The rank of a job that failed first; what failed later followed from it."""
    found = [read_json(file) for file in sorted(Path(folder).glob("failure-*.json"))]
    own = [failure for failure in found if failure.get("job") == job]
    return min(own, key=lambda failure: failure["time"], default=None)


def clear_failures(folder: str | Path) -> None:
    """Forget the failures of earlier starts."""
    for file in Path(folder).glob("failure-*.json"):
        file.unlink(missing_ok=True)


def saved_step(run_dir: str | Path) -> int:
    """The step of the newest complete checkpoint; 0 before there is one."""
    folders = Path(run_dir).glob("checkpoints/step-*/meta.json")
    return max((int(folder.parent.name.removeprefix("step-")) for folder in folders), default=0)


def summary(run_dir: str | Path) -> dict[str, Any]:
    """What the run says about itself; empty before it said anything."""
    return read_json(Path(run_dir) / "summary.json")


def read_json(file: Path) -> dict[str, Any]:
    """A small JSON file, or nothing when it is missing or half-written."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}
    return value if isinstance(value, dict) else {}


def lines(file: Path, *, last: int | None = None) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file, of its end only when `last` bytes are asked for; broken lines are left out."""
    try:
        with file.open("rb") as opened:
            if last is not None:
                opened.seek(max(0, file.stat().st_size - last))
            data = opened.read()
    except OSError:
        return []
    return list(_objects(data))


def _objects(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value
