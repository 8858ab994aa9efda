"""The results of a run that was trained and evaluated, as a comparison shows them."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from quell.configs.baseline_names import DEFAULT_BASELINES, TITLES
from quell.configs.support.event_log import read_events
from quell.configs.support.json_files import Record, number, read_json
from quell.launch.methods import method_of
from quell.launch.runs.folder import RunFolder
from quell.pipelines.reporting.columns import FollowedLoss, ReportColumn

REPORT_FILE = "report.json"

MIN_EVALUATIONS = 3
"""Evaluations of the validation split from which on a run shows whether its PSNR rises and falls."""

METRIC_TITLES = {"psnr": "PSNR", "ssim": "SSIM"}

Cell = float | str | None
"""A value of the table; None where the run has none."""


class Validation(NamedTuple):
    """One evaluation of the validation split."""

    step: int
    psnr: float
    """In dB."""
    ssim: float | None = None


@dataclass(frozen=True)
class RunResult:
    """One run of a comparison."""

    experiment: str
    """Name of the configuration; runs that differ in their seed share it."""
    seed: int
    row: dict[str, Cell]
    """Column title -> value."""
    train_events: list[Record] = field(default_factory=list)
    """Training events of the log, in order."""
    followed_loss: FollowedLoss | None = None
    """The loss term that the run's method is followed by, if the log has it; else the first phase's total loss is."""
    report_columns: tuple[ReportColumn, ...] = ()
    """The columns that its method adds to the table."""
    validation: tuple[Validation, ...] = ()
    """Every evaluation of the validation split, where it has clean images."""

    @property
    def curve_title(self) -> str:
        """What the followed loss is called: "cross", or "loss" for a total loss."""
        return self.followed_loss.name if self.followed_loss else "loss"

    def loss_curve(self) -> tuple[list[int], list[float]]:
        """Steps and values of the followed loss; NaN where it was not finite."""
        key = _loss_key(self.train_events[0], self.followed_loss)
        values = [math.nan if event.get(key) is None else event[key] for event in self.train_events]
        return [event["step"] for event in self.train_events], values


def read_result(path: Path) -> RunResult | None:
    """Read the results in a run folder; None if no run has started there."""
    folder = RunFolder(path)
    if not (folder.config_file.is_file() and folder.metrics_file.is_file()):
        return None
    config, events, summary = folder.config(), read_events(folder.metrics_file), folder.summary()
    method = method_of(config)
    train_events = [event for event in events if event["event"] == "train" and _has_loss(event)]
    last_evaluation: Record = next((event for event in reversed(events) if event["event"] == "eval"), {})
    report = _report_means(path / REPORT_FILE)
    metrics = {**last_evaluation, **report}
    followed_loss = method.followed_loss
    row: dict[str, Cell] = {"method": config.pipeline.name}
    if train_events:
        if followed_loss and not any(followed_loss.name in event for event in train_events):
            followed_loss = None
        key = _loss_key(train_events[0], followed_loss)
        title = followed_loss.name if followed_loss else "loss"
        row |= {f"{title} start": train_events[0].get(key), f"{title} end": train_events[-1].get(key)}
    row |= {column.title: metrics.get(column.metric) for column in method.report_columns}
    row |= restoration_quality(report)
    step = summary.get("step")
    row |= {"steps": float(step) if isinstance(step, int | float) else 0.0, "minutes": active_minutes(events)}
    row |= {"status": summary.get("status", "?")}
    validation = tuple(
        Validation(event["step"], event["psnr"], event.get("ssim"))
        for event in events
        if event["event"] == "eval" and event.get("psnr") is not None
    )
    row |= rise_and_fall(validation)
    return RunResult(config.name, config.seed, row, train_events, followed_loss, method.report_columns, validation)


def rise_and_fall(validation: Sequence[Validation]) -> dict[str, Cell]:
    """The highest and the last PSNR on the validation split, with SSIM, and when it was; empty for few evaluations."""
    if len(validation) < MIN_EVALUATIONS:
        return {}
    best, end = max(validation, key=lambda evaluation: evaluation.psnr), validation[-1]
    return {
        "best at step": float(best.step),
        "validation best": best.psnr,
        "validation end": end.psnr,
        "SSIM at best": best.ssim,
        "SSIM at end": end.ssim,
    }


def restoration_quality(means: dict[str, float]) -> dict[str, Cell]:
    """PSNR and SSIM of the restored images and of the baselines, each averaged over the fields.

    Args:
        means: The means of report.json: `<output>/psnr`, `<field>/<baseline>/psnr` and so on. A method may restore a
            field in several ways, its paths, with outputs named `<field>_<path>`; each path is averaged by itself.
    """
    fields = {name.split("/")[0] for name in means if name.count("/") == 2}
    outputs = {name.split("/")[0] for name in means if name.count("/") == 1}
    outputs_by_path: dict[str, list[str]] = {}
    for output in sorted(outputs):
        # the longest match: "pd_cross" belongs to pd, but "pd_fs_cross" to pd_fs
        restored = next((f for f in sorted(fields, key=len, reverse=True) if output.startswith(f"{f}_")), None)
        path = output.removeprefix(f"{restored}_") if restored else ""
        outputs_by_path.setdefault(path, []).append(output)
    row: dict[str, Cell] = {}
    for metric, title in METRIC_TITLES.items():
        for path, names in outputs_by_path.items():
            row[f"{title} {path} path" if path else title] = _mean(means.get(f"{name}/{metric}") for name in names)
        for baseline in DEFAULT_BASELINES:
            values = (means.get(f"{name}/{baseline}/{metric}") for name in sorted(fields))
            row[f"{title} {TITLES[baseline]}"] = _mean(values)
    return row


def active_minutes(events: list[Record]) -> float:
    """Minutes during which the run's processes were active: the pauses before each resume are left out."""
    seconds = sum(
        event["time"] - previous["time"]
        for previous, event in pairwise(events)
        if event["event"] not in ("start", "resume")
    )
    return seconds / 60


def _has_loss(event: Record) -> bool:
    """Whether a training event has what every one logs; a damaged line may have lost it."""
    return any(key.startswith("loss_") for key in event)


def _loss_key(event: Record, followed_loss: FollowedLoss | None) -> str:
    """Name of the followed loss in a training event."""
    return followed_loss.name if followed_loss else next(key for key in event if key.startswith("loss_"))


def _report_means(file: Path) -> dict[str, float]:
    """The means of a report.json; empty if there is none yet."""
    means = read_json(file).get("means")
    numbers = {name: number(value) for name, value in means.items()} if isinstance(means, dict) else {}
    return {name: value for name, value in numbers.items() if value is not None}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.fmean(known) if known else None
