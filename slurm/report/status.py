"""The table of a submission: stage, job, state, step, loss, time left, and why it ended."""

import itertools
from pathlib import Path
from typing import Any

from configs.errors import MachineError
from slurm.node import records
from slurm.submission import client, state
from slurm.submission.manifest import Manifest, SubmittedTask

HEADINGS = ("stage", "job", "state", "step", "loss", "left", "why")
_LAST_BYTES = 200_000


def table(manifest: Manifest) -> str:
    """One line a task, as text."""
    queue = {}
    note = ""
    if manifest.executor == "slurm":
        try:
            queue = client.states()
        except MachineError as error:
            note = f"{error}; what follows is from the run folders alone\n"
    rows = [HEADINGS] + [
        _row(manifest, name, task, queue) for name, stage in manifest.stages.items() for task in stage.tasks
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS) - 1)] + [0]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return note + "\n".join(lines) + "\n"


def progress(task: SubmittedTask) -> tuple[str, str, str]:
    """`step/steps`, the last loss, and the time left, as far as the run folder tells."""
    if task.kind != "train":
        return "", "", ""
    summary = records.summary(task.run_dir)
    events = records.lines(Path(task.run_dir) / "metrics.jsonl", last=_LAST_BYTES)
    trained = [event for event in events if event.get("event") == "train"]
    step = max([summary.get("step") or 0, *[event["step"] for event in trained[-1:]]])
    steps = summary.get("steps")
    loss = next((f"{value:.4g}" for name, value in _items(trained) if name.startswith("loss")), "")
    left = _left(trained, steps) if summary.get("status") == "running" else ""
    return (f"{step}/{steps}" if steps else ""), loss, left


def _row(manifest: Manifest, stage: str, task: SubmittedTask, queue: dict[str, client.Queued]) -> tuple[str, ...]:
    standing = state.of(manifest, stage, task, queue)
    return (task.name, task.job or "-", standing.word, *progress(task), standing.why)


def _items(trained: list[dict[str, Any]]) -> list[tuple[str, float]]:
    return [(name, value) for name, value in (trained[-1].items() if trained else ()) if isinstance(value, int | float)]


def _left(trained: list[dict[str, Any]], steps: int | None) -> str:
    """Time left at the pace of the last events of one start (a clock that went on while the job waited is left out)."""
    recent = trained[-10:]
    if not steps or len(recent) < 2 or recent[-1]["step"] <= recent[0]["step"]:
        return ""
    paces = [
        (after["time"] - before["time"]) / max(after["step"] - before["step"], 1)
        for before, after in itertools.pairwise(recent)
    ]
    seconds = int(sorted(paces)[len(paces) // 2] * (steps - recent[-1]["step"]))
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
