"""The best checkpoint of a run, by the metrics that every checkpoint records; best.json only repeats the outcome."""

import json
import math
import os
from pathlib import Path
from typing import TypedDict

from quell.configs.schema import LOWER_IS_BETTER
from quell.configs.support.json_files import Record, read_json
from quell.launch.checkpoints.files import write_durably
from quell.launch.checkpoints.layout import META, complete, step_of

BEST_FILE = "best.json"


class Best(TypedDict):
    """Content of best.json."""

    step: int
    metric: str
    value: float


def find_best(folder: Path, metric: str) -> Best | None:
    """The best of the checkpoints in a run's `checkpoints/`, the earliest of equal ones; None where none has a value.

    Args:
        folder: The folder `checkpoints/` of a run.
        metric: Name of the metric (evaluation.metric).
    """
    found: Best | None = None
    for checkpoint in complete(folder):
        meta = read_json(checkpoint / META)
        value = _value(meta, metric)
        if value is None:
            continue
        better = found is None or (value < found["value"] if metric in LOWER_IS_BETTER else value > found["value"])
        if better:
            found = Best(step=step_of(checkpoint) or 0, metric=metric, value=value)
    return found


def write_best(folder: Path, metric: str) -> Best | None:
    """Write into best.json which checkpoint is the best; the same, or None where none has a value."""
    best = find_best(folder, metric)
    if best is not None and best != read_best(folder):
        if (folder / BEST_FILE).is_dir():  # no file can replace it, and a cache must not stop a run
            os.rename(folder / BEST_FILE, folder / f"{BEST_FILE}.damaged")
        write_durably(folder / BEST_FILE, json.dumps(best))
    return best


def read_best(folder: Path) -> Best | None:
    """What best.json says; None where it is missing or not readable."""
    best = read_json(folder / BEST_FILE)
    step, metric, value = best.get("step"), best.get("metric"), best.get("value")
    if type(step) is not int or not isinstance(metric, str) or not isinstance(value, int | float):
        return None
    return Best(step=step, metric=metric, value=value)


def _value(meta: Record, metric: str) -> float | None:
    metrics = meta.get("metrics")
    value = metrics.get(metric) if isinstance(metrics, dict) else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
