"""Finished runs side by side: one row per run, a Markdown table with mean ± std over seeds, and a CSV of every run.

A column is filled where a run measured it; a column that no run of the comparison has is left out.
"""

import csv
import io
import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from launch.report import markdown_table
from launch.run_folder import RunFolder, write_atomically

REPORT = "report.json"
BASELINES = {"noisy": "noisy", "nlm": "NLM"}
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

DIGITS = {"PSNR": 2, "SSIM": 3, "minutes": 1, "steps": 0, "seed": 0}
"""Digits after the point by the first word of a column; 3 for the others."""


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
        for baseline, title in BASELINES.items():
            row[f"{called} {title}"] = _mean(means.get(f"{name}/{baseline}/{metric}") for name in sorted(fields))
    return row


def table(runs: list[Measured]) -> list[dict[str, str | None]]:
    """One row per experiment, numbers as text; mean ± standard deviation (n - 1) where it ran with several seeds."""
    rows: list[dict[str, str | None]] = []
    columns = _columns(runs)
    for name in dict.fromkeys(run.experiment for run in runs):
        mine = [run for run in runs if run.experiment == name]
        row: dict[str, str | None] = {"experiment": name}
        if any(_seeds(runs, other.experiment) > 1 for other in runs):
            row["seeds"] = str(len(mine))
        rows.append(row | {column: _cell(column, [run.row.get(column) for run in mine]) for column in columns})
    return rows


def csv_text(runs: list[Measured]) -> str:
    """Every run with unrounded numbers."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["experiment", "seed", *_columns(runs)], lineterminator="\n")
    writer.writeheader()
    for run in runs:
        known = {column: run.row.get(column) for column in _columns(runs)}
        writer.writerow({"experiment": run.experiment, "seed": run.seed, **known})
    return text.getvalue()


def write(runs: list[Measured], folder: Path) -> str:
    """results.md, results.csv and results.png in a folder; the Markdown text."""
    from launch import comparison_plot  # matplotlib is slow to import

    text = "# Results\n\n" + markdown_table(table(runs)) + "\n" + notes(runs)
    drawn = comparison_plot.draw(runs, folder / "results.png")
    write_atomically(folder / "results.md", text + ("\n![results](results.png)\n" if drawn else ""))
    write_atomically(folder / "results.csv", csv_text(runs))
    return text


def notes(runs: list[Measured]) -> str:
    """What the columns of this table mean."""
    columns, said = _columns(runs), []
    if "cross start" in columns:
        said.append("cross start, cross end: cross loss of the first and last training log, sum over both contrasts in "
                    "units of each image's median magnitude.")
    if "cross/floor" in columns:
        said.append("floor: what the target's own noise leaves of the cross loss at best; below 0.97 of it is a leak.")
    if "collapse" in columns:
        said.append("collapse: distance of latents of different slices over their size; below 0.01 the encoder says "
                    "the same of every slice.")
    if any(column.startswith("leak") for column in columns):
        said.append("leak: correlation of the error with the source's, the target's, or the own path's noise.")
    if any(column.startswith("PSNR") for column in columns):
        said.append("PSNR (dB) and SSIM on the test split, mean over images and contrasts, data range as stored.")
    return " ".join(said) + "\n" if said else ""


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
    return sum(event["time"] - before["time"] for before, event in pairwise(events)
               if event["event"] not in ("start", "resume")) / 60


def _report(file: Path) -> dict[str, float]:
    try:
        means: dict[str, float] = json.loads(file.read_text())["means"]
        return means
    except (OSError, json.JSONDecodeError, KeyError):
        return {}


def _columns(runs: list[Measured]) -> list[str]:
    """Columns that some run has filled, methods only where they differ, the status only where a run is not finished."""
    names = list(dict.fromkeys(name for run in runs for name in run.row))
    filled = [name for name in names if any(run.row.get(name) is not None for run in runs)]
    same = {name: len({run.row[name] for run in runs}) == 1 for name in filled if name in ("method", "status")}
    hidden = [name for name, alike in same.items() if alike and (name == "method" or runs[0].row[name] == "finished")]
    last = [name for name in filled if name in ("steps", "minutes", "status")]
    return [name for name in filled if name not in hidden + last] + [name for name in last if name not in hidden]


def _seeds(runs: list[Measured], experiment: str) -> int:
    return sum(run.experiment == experiment for run in runs)


def _cell(column: str, values: list[float | str | None]) -> str | None:
    numbers = [value for value in values if isinstance(value, float | int)]
    if not numbers:
        words = dict.fromkeys(str(value) for value in values if value is not None)
        return ", ".join(words) or None
    digits = DIGITS.get(column.split()[0], 3)
    text = f"{statistics.fmean(numbers):.{digits}f}"
    if len(numbers) < 2 or column == "steps":
        return text
    return f"{text} ± {statistics.stdev(numbers):.{digits}f}"


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.fmean(known) if known else None
