"""What a run left behind when it was trained and evaluated, as the numbers a comparison shows."""

import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from configs import baseline_names
from launch.runs.folder import RunFolder

REPORT = "report.json"
METRICS = {"psnr": "PSNR", "ssim": "SSIM"}
PATHS = {"": "", "cross": " cross path", "same": " same path"}
"""What an output's name has after its field's, and what the table calls it."""

INSTRUMENTS = {
    "floor": "floor",
    "cross_over_floor": "cross/floor",
    "cross_over_constant": "cross/constant",
    "latent_spread": "collapse",
    "matched_over_mismatched": "matched/mismatched",
    "leak_source": "leak source",
    "leak_target": "leak target",
    "leak_same": "leak same path",
}
"""Instruments of the dual-domain methods, and what the table calls them."""


@dataclass(frozen=True)
class Measured:
    """What one run left behind, as the rows and the plot need it."""

    experiment: str
    seed: int
    row: dict[str, float | str | None]
    train: list[dict[str, Any]] = field(default_factory=list)
    """The training events of the log, in order."""


def measure(path: Path) -> Measured | None:
    """The numbers of the run in a folder; None where no run has begun."""
    folder = RunFolder(path)
    if not (folder.config_file.is_file() and folder.metrics_file.is_file()):
        return None
    config, events, summary = folder.config(), read_events(folder.metrics_file), folder.summary()
    train = [event for event in events if event["event"] == "train"]
    last_eval: dict[str, Any] = next((event for event in reversed(events) if event["event"] == "eval"), {})
    report = _report(path / REPORT)
    instruments = {**last_eval, **report}
    row: dict[str, float | str | None] = {"method": config.pipeline.name}
    if train:
        key = loss_key(train[0])
        word = "cross" if key == "cross" else "loss"
        row |= {f"{word} start": train[0][key], f"{word} end": train[-1][key]}
    row |= {title: instruments.get(name) for name, title in INSTRUMENTS.items()}
    row |= quality(report)
    row |= {"steps": float(summary.get("step") or 0), "minutes": minutes(events), "status": summary.get("status", "?")}
    return Measured(config.name, config.seed, row, train)


def loss_key(event: dict[str, Any]) -> str:
    """The curve a run is followed by: the cross loss, or the loss of the first phase."""
    return "cross" if "cross" in event else next(key for key in event if key.startswith("loss_"))


def quality(means: dict[str, float]) -> dict[str, float | str | None]:
    """PSNR and SSIM of the restored images by path, and of the baselines, each averaged over the fields."""
    fields = {name.split("/")[0] for name in means if name.count("/") == 2}
    outputs = {name.split("/")[0] for name in means if name.count("/") == 1}
    paths: dict[str, list[str]] = {}
    for output in sorted(outputs):
        own = next((f for f in sorted(fields, key=len, reverse=True) if output.startswith(f + "_")), None)
        paths.setdefault(output.removeprefix(f"{own}_") if own else "", []).append(output)
    row: dict[str, float | str | None] = {}
    for metric, called in METRICS.items():
        for path, names in paths.items():
            row[called + PATHS.get(path, f" {path}")] = _mean(means.get(f"{name}/{metric}") for name in names)
        for baseline in baseline_names.COMPARED:
            row[f"{called} {baseline_names.TITLES[baseline]}"] = _mean(
                means.get(f"{name}/{baseline}/{metric}") for name in sorted(fields)
            )
    return row


def read_events(file: Path) -> list[dict[str, Any]]:
    """The events of a metrics.jsonl; a half-written last line is left out."""
    events = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return events


def minutes(events: list[dict[str, Any]]) -> float:
    """Minutes the run's processes were at work, pauses between them left out."""
    return (
        sum(
            event["time"] - before["time"]
            for before, event in pairwise(events)
            if event["event"] not in ("start", "resume")
        )
        / 60
    )


def _report(file: Path) -> dict[str, float]:
    try:
        means: dict[str, float] = json.loads(file.read_text())["means"]
        return means
    except (OSError, json.JSONDecodeError, KeyError):
        return {}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.fmean(known) if known else None
