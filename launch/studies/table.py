"""Runs compared in a table: Markdown with mean ± standard deviation over seeds, and a CSV with every run.

A column that no run of the comparison has a value for is left out.
"""

import csv
import io
import statistics
from pathlib import Path

from quell.configs.support.atomic_files import write_atomically
from quell.launch.evaluation.report import markdown_table
from quell.launch.studies.results import Cell, RunResult

DIGITS = {"PSNR": 2, "maps/images": 4, "validation": 2, "best": 0, "SSIM": 3, "minutes": 1, "steps": 0, "seed": 0}
"""Digits after the decimal point by the first word of a column title; 3 for all others."""

LAST_COLUMNS = ("steps", "minutes", "status")


def rows(runs: list[RunResult]) -> list[dict[str, str | None]]:
    """One row per experiment, with formatted numbers; mean ± sample standard deviation over several seeds."""
    table: list[dict[str, str | None]] = []
    columns = _columns(runs)
    experiments = list(dict.fromkeys(run.experiment for run in runs))
    has_seeds = len(experiments) < len(runs)
    for experiment in experiments:
        seeds = [run for run in runs if run.experiment == experiment]
        row: dict[str, str | None] = {"experiment": experiment}
        if has_seeds:
            row["seeds"] = str(len(seeds))
        table.append(row | {column: _format(column, [run.row.get(column) for run in seeds]) for column in columns})
    return table


def csv_text(runs: list[RunResult]) -> str:
    """A CSV with a line per run and unrounded numbers."""
    columns = _columns(runs)
    text = io.StringIO()
    writer = csv.DictWriter(text, ["experiment", "seed", *columns], lineterminator="\n")
    writer.writeheader()
    for run in runs:
        values = {column: run.row.get(column) for column in columns}
        writer.writerow({"experiment": run.experiment, "seed": run.seed, **values})
    return text.getvalue()


def write(runs: list[RunResult], folder: Path) -> str:
    """Write results.md, results.csv and results.png to a folder; returns the Markdown without the picture."""
    from quell.launch.studies import plot  # imports matplotlib, which is slow

    text = "# Results\n\n" + markdown_table(rows(runs)) + "\n" + notes(runs)
    has_plot = plot.draw(runs, folder / "results.png")
    write_atomically(folder / "results.md", text + ("\n![results](results.png)\n" if has_plot else ""))
    write_atomically(folder / "results.csv", csv_text(runs))
    return text


def notes(runs: list[RunResult]) -> str:
    """What the columns of this table mean."""
    columns = _columns(runs)
    sentences = [
        run.followed_loss.note
        for run in runs
        if run.followed_loss and run.followed_loss.note and f"{run.followed_loss.name} start" in columns
    ]
    sentences += [
        column.note for run in runs for column in run.report_columns if column.note and column.title in columns
    ]
    if any(column.startswith("PSNR") for column in columns):
        sentences.append("PSNR (dB) and SSIM on the test split, mean over images and contrasts, data range as stored.")
    if "validation best" in columns:
        sentences.append(
            "validation best, end: highest and last PSNR (dB) on the validation split; SSIM at the same steps."
        )
    return " ".join(dict.fromkeys(sentences)) + "\n" if sentences else ""


def _columns(runs: list[RunResult]) -> list[str]:
    """The columns that are shown, in order.

    The method is shown only if the runs differ in it, the status only if a run has not finished.
    """
    titles = dict.fromkeys(title for run in runs for title in run.row)
    filled = [title for title in titles if any(run.row.get(title) is not None for run in runs)]
    hidden = set()
    if len({run.row.get("method") for run in runs}) == 1:
        hidden.add("method")
    if {run.row.get("status") for run in runs} == {"finished"}:
        hidden.add("status")
    losses = {f"{runs[0].curve_title} {end}" for end in ("start", "end")}
    own = {column.title for run in runs for column in run.report_columns}

    def section(title: str) -> int:
        # The columns that methods add stay next to the losses, whichever run they come from. Losses that only later
        # runs are followed by come after the quality.
        sections = ({"method"}, losses, own)
        after = len(sections) + (title in LAST_COLUMNS)
        return next((i for i, titles in enumerate(sections) if title in titles), after)

    return sorted((title for title in filled if title not in hidden), key=section)


def _format(column: str, values: list[Cell]) -> str | None:
    """The cell of an experiment, from the values of its seeds."""
    numbers = [value for value in values if isinstance(value, float | int)]
    if not numbers:
        words = dict.fromkeys(str(value) for value in values if value is not None)
        return ", ".join(words) or None
    digits = DIGITS.get(column.split()[0], 3)
    text = f"{statistics.fmean(numbers):.{digits}f}"
    if len(numbers) < 2 or column == "steps":
        return text
    return f"{text} ± {statistics.stdev(numbers):.{digits}f}"
