"""The best member of a sweep, and what later stages take from that choice."""

import json
import math
import sys
from pathlib import Path
from typing import TypedDict, cast

from quell.configs.errors import DataError
from quell.configs.support.atomic_files import write_atomically
from quell.configs.support.json_files import read_json
from quell.slurm.node import records
from quell.slurm.stages.task import Task


class Choice(TypedDict):
    """The contents of choice.json."""

    winner: str
    run: str
    """The winner's run folder."""
    changes: list[str]
    """The winner's own `a.b=c` overrides."""
    metric: str
    values: dict[str, float]
    """The metric of each member that was compared."""
    left_out: dict[str, str]
    """Why the other members were not compared."""


def choose(task: Task) -> str:
    """Compare the members of a sweep, write choice.json, and describe the choice in words.

    Members that did not finish, or whose summary has no finite value of the metric, are left out.

    Raises:
        DataError: No member is left.
    """
    assert task.pick is not None
    metric = task.pick.metric
    values, left_out = {}, {}
    for member, run in task.candidates.items():
        summary = records.summary(run)
        metrics = summary.get("metrics")
        value = metrics.get(metric) if isinstance(metrics, dict) else None
        if summary.get("status") != "finished":
            left_out[member] = f"not finished ({summary.get('status', 'no summary.json')})"
        elif not isinstance(value, int | float) or not math.isfinite(value):
            left_out[member] = f"no finite '{metric}' in its metrics"
        else:
            values[member] = float(value)
    if not values:
        reasons = "; ".join(f"{member}: {reason}" for member, reason in left_out.items())
        raise DataError(f"{task.name}: no member of '{task.pick.stage}' can be compared by {metric}: {reasons}")
    best = (max if task.pick.mode == "max" else min)(values, key=lambda member: values[member])
    choice = Choice(
        winner=best,
        run=task.candidates[best],
        changes=list(task.changes.get(best, ())),
        metric=metric,
        values=values,
        left_out=left_out,
    )
    folder = Path(task.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "choice.json", json.dumps(choice, indent=1) + "\n")
    _print(choice)
    return f"{best}: {metric} {values[best]:.6g}"


def late_overrides(task: Task) -> list[str]:
    """The overrides that are known only when a task starts: a winner's changes, and the run to take weights from."""
    overrides: list[str] = []
    if task.use:
        overrides += [*_choice(task, task.use)["changes"], *task.settings]
    if task.init_from:
        source = task.init_from
        value = {"run": _choice(task, source.stage)["run"], "parts": list(source.parts), "which": source.which}
        overrides.append(f"init_from={json.dumps(value)}")
    return overrides


def _choice(task: Task, stage: str) -> Choice:
    choice = read_json(Path(task.choices[stage]))
    if not (isinstance(choice.get("run"), str) and isinstance(choice.get("changes"), list)):
        raise DataError(f"{task.name}: '{stage}' has not chosen yet (no {task.choices[stage]}): run that stage first")
    return cast(Choice, choice)


def _print(choice: Choice) -> None:
    for member, value in choice["values"].items():
        mark = "  <- chosen" if member == choice["winner"] else ""
        print(f"{member}: {choice['metric']} {value:.6g}{mark}")
    for member, reason in choice["left_out"].items():
        print(f"{member}: left out, {reason}", file=sys.stderr)
