"""The best member of a sweep, and what stages after it take from the choice."""

import json
import math
import sys
from pathlib import Path
from typing import Any

from configs.errors import DataError
from slurm.node import records
from slurm.stages.task import Task


def choose(task: Task) -> str:
    """Write choice.json: the winner, its run folder and changes, and every candidate's value; the choice in words.

    Members that did not finish or did not measure the metric are left out and named. DataError when none is left.
    """
    assert task.pick is not None
    metric = task.pick.metric
    values, missing = {}, {}
    for member, run in task.candidates.items():
        summary = records.summary(run)
        value = summary.get("metrics", {}).get(metric)
        if summary.get("status") != "finished":
            missing[member] = f"not finished ({summary.get('status', 'no summary.json')})"
        elif not isinstance(value, int | float) or not math.isfinite(value):
            missing[member] = f"no number '{metric}' in its metrics"
        else:
            values[member] = float(value)
    if not values:
        reasons = "; ".join(f"{member}: {why}" for member, why in missing.items())
        raise DataError(f"{task.name}: no member of '{task.pick.stage}' can be chosen by {metric}: {reasons}")
    best = (max if task.pick.mode == "max" else min)(values, key=lambda member: values[member])
    choice = {
        "winner": best,
        "run": task.candidates[best],
        "changes": list(task.changes.get(best, ())),
        "metric": metric,
        "values": values,
        "left_out": missing,
    }
    folder = Path(task.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "choice.json").write_text(json.dumps(choice, indent=1) + "\n", encoding="utf-8")
    _print(choice)
    return f"{best}: {metric} {values[best]:.6g}"


def late_words(task: Task) -> list[str]:
    """What is known only when a task starts: the winner's changes and the run to take weights from."""
    words: list[str] = []
    if task.use:
        words += _choice(task, task.use)["changes"]
    if task.init_from:
        start = task.init_from
        value = {"run": _choice(task, start.stage)["run"], "parts": list(start.parts), "which": start.which}
        words.append(f"init_from={json.dumps(value)}")
    return words


def _choice(task: Task, stage: str) -> dict[str, Any]:
    choice = records.read_json(Path(task.choices[stage]))
    if not choice:
        raise DataError(
            f"{task.name}: the choice of '{stage}' is not there ({task.choices[stage]}): run that stage first"
        )
    return choice


def _print(choice: dict[str, Any]) -> None:
    for member, value in choice["values"].items():
        mark = "  <- chosen" if member == choice["winner"] else ""
        print(f"{member}: {choice['metric']} {value:.6g}{mark}")
    for member, why in choice["left_out"].items():
        print(f"{member}: left out, {why}", file=sys.stderr)
