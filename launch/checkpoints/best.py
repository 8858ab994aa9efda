"""The best checkpoint of a run, by the metrics that every checkpoint records; best.json only repeats the outcome."""

import json
import math
import os
from pathlib import Path
from typing import TypedDict

from quell.configs.metric_names import cost
from quell.configs.support.json_files import Record, read_json
from quell.configs.support.mappings import flatten
from quell.launch.checkpoints.files import write_durably
from quell.launch.checkpoints.layout import META, complete, step_of

BEST_FILE = "best.json"


class Best(TypedDict):
    """Content of best.json."""

    step: int
    metric: str
    value: float


def ranking(folder: Path, metric: str) -> list[Best]:
    """The checkpoints in a run's `checkpoints/` that have a value, the best first, the earlier of equal ones first.

    Only those count that were measured on the images of the latest one (`measured_images`).

    Args:
        folder: The folder `checkpoints/` of a run.
        metric: Name of the metric (evaluation.metric).
    """
    metas = {step_of(checkpoint) or 0: read_json(checkpoint / META) for checkpoint in complete(folder)}
    current = measured_images(metas[max(metas)]) if metas else ()
    found = []
    for step, meta in metas.items():
        value = _value(meta, metric)
        if value is not None and measured_images(meta) == current:
            found.append(Best(step=step, metric=metric, value=value))
    return sorted(found, key=lambda best: (cost(metric, best["value"]), best["step"]))


def measured_images(meta: Record) -> tuple[object, ...]:
    """Which validation images the metrics of a checkpoint are of, as far as its configuration says.

    A run may be resumed with another validation split or limit. Values of other images are then no rivals.
    """
    settings = flatten(config) if isinstance(config := meta.get("config"), dict) else {}
    return tuple(settings.get(key) for key in ("data.val_split", "data.limit", "evaluation.limit"))


def find_best(folder: Path, metric: str) -> Best | None:
    """The first of `ranking`; None where no checkpoint has a value."""
    return next(iter(ranking(folder, metric)), None)


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
