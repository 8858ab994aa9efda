"""The table of a submission: each task's job, state, step, loss, time left, and the reason for its state."""

import itertools
from pathlib import Path

from configs.errors import MachineError
from configs.support.event_log import read_events
from configs.support.json_files import Record
from slurm.node import records
from slurm.submission import client
from slurm.submission.client import QueuedJob
from slurm.submission.manifest import Manifest, SubmittedTask
from slurm.submission.state import task_status

HEADINGS = ("stage", "job", "state", "step", "loss", "left", "why")
_METRICS_TAIL_BYTES = 200_000
"""How much of the end of metrics.jsonl is read: enough for the last training events."""

_PACE_EVENTS = 10
"""Events from which the pace is computed."""


def table(manifest: Manifest) -> str:
    """The table as text, one line per task."""
    queue: dict[str, QueuedJob] = {}
    note = ""
    if manifest.executor == "slurm":
        try:
            queue = client.queue()
        except MachineError as error:
            note = f"{error}; the table below is from the run folders alone\n"
    rows = [HEADINGS] + [
        _row(manifest, name, task, queue) for name, stage in manifest.stages.items() for task in stage.tasks
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS) - 1)] + [0]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return note + "\n".join(lines) + "\n"


def _row(manifest: Manifest, stage: str, task: SubmittedTask, queue: dict[str, QueuedJob]) -> tuple[str, ...]:
    status = task_status(manifest, stage, task, queue)
    return (task.name, task.job or "-", status.state, *_progress(task), status.reason)


def _progress(task: SubmittedTask) -> tuple[str, str, str]:
    """`step/steps`, the last loss, and the time left, as far as the run folder has them."""
    if task.kind != "train":
        return "", "", ""
    summary = records.summary(task.run_dir)
    events = read_events(Path(task.run_dir) / "metrics.jsonl", last_bytes=_METRICS_TAIL_BYTES)
    train_events = [event for event in events if event["event"] == "train"]
    last = train_events[-1] if train_events else {}
    step = max(_whole(summary.get("step")), last.get("step", 0))
    steps = _whole(summary.get("steps"))
    losses = [value for name, value in last.items() if name.startswith("loss") and isinstance(value, int | float)]
    left = _time_left(train_events, steps) if summary.get("status") == "running" else ""
    return (f"{step}/{steps}" if steps else ""), (f"{losses[0]:.4g}" if losses else ""), left


def _whole(value: object) -> int:
    """A count in a summary.json; 0 where it is missing or damaged."""
    return value if isinstance(value, int) else 0


def _time_left(train_events: list[Record], steps: int | None) -> str:
    """The time left at the median pace of the last events, which ignores the time a job waited to be restarted."""
    recent = train_events[-_PACE_EVENTS:]
    if not steps or len(recent) < 2 or recent[-1]["step"] <= recent[0]["step"]:
        return ""
    paces = [
        (after["time"] - before["time"]) / max(after["step"] - before["step"], 1)
        for before, after in itertools.pairwise(recent)
    ]
    seconds = int(sorted(paces)[len(paces) // 2] * (steps - recent[-1]["step"]))
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
