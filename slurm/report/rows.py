"""The state and progress of each task of a submission, from SLURM's queue and the run folders."""

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from quell.configs.support.event_log import read_events
from quell.configs.support.json_files import Record
from quell.slurm.node import records
from quell.slurm.submission import state
from quell.slurm.submission.client import QueuedJob
from quell.slurm.submission.manifest import Manifest, SubmittedTask

_METRICS_TAIL_BYTES = 200_000
"""How much of the end of metrics.jsonl is read: enough for the last training events."""
_LATEST_S = 1e11
"""Beyond any time in seconds since 1970 that a record may hold."""
_PACE_EVENTS = 10
"""Events from which the pace is computed."""


@dataclass(frozen=True)
class Progress:
    """How far a training run has come, as far as its folder says."""

    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    left_s: int | None = None
    """Seconds left at the pace of the last steps; None for a run that is not training."""


@dataclass(frozen=True)
class Row:
    """One task."""

    stage: str
    task: str
    """`stage`, or `stage.member` of a sweep."""
    job: str
    state: str
    reason: str
    node: str = ""
    """Where it runs, or ran last."""
    elapsed_s: int | None = None
    """Seconds of the present start, or of the last one."""
    expected_start: str = ""
    """When SLURM expects to start it, as SLURM writes the time; empty where it does not say."""
    run_dir: str = ""
    progress: Progress = field(default_factory=Progress)


def rows(manifest: Manifest, queue: Mapping[str, QueuedJob]) -> list[Row]:
    """One row for each task, in the order of the stages."""
    return [
        _row(manifest, stage, task, queue) for stage, submitted in manifest.stages.items() for task in submitted.tasks
    ]


def _row(manifest: Manifest, stage: str, task: SubmittedTask, queue: Mapping[str, QueuedJob]) -> Row:
    status = state.task_status(manifest, stage, task, queue)
    task = state.latest(task, queue)
    queued = queue.get(task.job)
    is_waiting = status.state == state.WAITING
    return Row(
        stage=stage,
        task=task.name,
        job=task.job,
        state=status.state,
        reason=status.reason,
        node="" if is_waiting else (queued.node if queued else "") or _last_node(task),
        elapsed_s=None if is_waiting else _elapsed(task, queued, is_running=status.state == state.RUNNING),
        expected_start=queued.expected_start if queued and is_waiting else "",
        run_dir=task.run_dir,
        progress=progress(task),
    )


def _last_node(task: SubmittedTask) -> str:
    """The first node of the last start."""
    start = records.since_last_start(records.history(task.folder))
    return str(start[0].get("node", "")) if start else ""


def _elapsed(task: SubmittedTask, queued: QueuedJob | None, *, is_running: bool) -> int | None:
    """Seconds of the last start: by SLURM's clock while the job is there, otherwise by what the launcher recorded."""
    if queued is not None and queued.elapsed_s is not None:
        return queued.elapsed_s
    events = records.since_last_start(records.history(task.folder))
    if not events:
        return None
    last, *after = events
    if not after and not is_running:
        return None  # it was killed, nobody knows when
    begun, ended = (event.get("time") for event in (last, after[-1] if after else {"time": time.time()}))
    if not all(isinstance(at, int | float) and abs(at) < _LATEST_S for at in (begun, ended)):
        return None  # a damaged record
    return max(0, int(cast(float, ended) - cast(float, begun)))


def progress(task: SubmittedTask) -> Progress:
    """Step, steps, last loss and the time left of a training run, whatever is damaged in its folder."""
    if task.kind != "train":
        return Progress()
    summary = records.summary(task.run_dir)
    events = read_events(Path(task.run_dir) / "metrics.jsonl", last_bytes=_METRICS_TAIL_BYTES)
    train_events = [event for event in events if event["event"] == "train"]
    last = train_events[-1] if train_events else {}
    step = max(_whole(summary.get("step")), last.get("step", 0))
    steps = _whole(summary.get("steps"))
    losses = [value for name, value in last.items() if name.startswith("loss") and isinstance(value, int | float)]
    left = _time_left(train_events, steps) if summary.get("status") == "running" else None
    return Progress(step if steps else None, steps or None, float(losses[0]) if losses else None, left)


def _whole(value: object) -> int:
    """A count in a summary.json; 0 where it is missing or damaged."""
    return value if isinstance(value, int) else 0


def _time_left(train_events: list[Record], steps: int) -> int | None:
    """Seconds left at the median pace of the last events, which ignores the time a job waited to be restarted."""
    recent = train_events[-_PACE_EVENTS:]
    if not steps or len(recent) < 2 or recent[-1]["step"] <= recent[0]["step"]:
        return None
    paces = [
        (after["time"] - before["time"]) / max(after["step"] - before["step"], 1)
        for before, after in itertools.pairwise(recent)
    ]
    return int(sorted(paces)[len(paces) // 2] * (steps - recent[-1]["step"]))
