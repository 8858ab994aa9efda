"""Finished runs side by side: one row per run, a Markdown table with mean ± std over seeds, and a CSV of every run.

A column is filled where a run measured it; a column that no run of the comparison has is left out.
"""

import csv
import io
import statistics
from pathlib import Path

from configs.support.atomic_files import write_atomically
from launch.evaluation.report import markdown_table
from launch.studies.results import Measured

DIGITS = {"PSNR": 2, "SSIM": 3, "minutes": 1, "steps": 0, "seed": 0}
"""Digits after the point by the first word of a column; 3 for the others."""


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
    from launch.studies import plot  # matplotlib is slow to import

    text = "# Results\n\n" + markdown_table(table(runs)) + "\n" + notes(runs)
    drawn = plot.draw(runs, folder / "results.png")
    write_atomically(folder / "results.md", text + ("\n![results](results.png)\n" if drawn else ""))
    write_atomically(folder / "results.csv", csv_text(runs))
    return text


def notes(runs: list[Measured]) -> str:
    """What the columns of this table mean."""
    columns, said = _columns(runs), []
    if "cross start" in columns:
        said.append(
            "cross start, cross end: cross loss of the first and last training log, sum over both contrasts in "
            "units of each image's median magnitude."
        )
    if "cross/floor" in columns:
        said.append("floor: what the target's own noise leaves of the cross loss at best; below 0.97 of it is a leak.")
    if "collapse" in columns:
        said.append(
            "collapse: distance of latents of different slices over their size; below 0.01 the encoder says "
            "the same of every slice."
        )
    if any(column.startswith("leak") for column in columns):
        said.append("leak: correlation of the error with the source's, the target's, or the own path's noise.")
    if any(column.startswith("PSNR") for column in columns):
        said.append("PSNR (dB) and SSIM on the test split, mean over images and contrasts, data range as stored.")
    return " ".join(said) + "\n" if said else ""


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
