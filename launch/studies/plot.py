"""The plot of a comparison: each run's loss and validation PSNR over its steps, and its PSNR beside the baselines'."""

from collections.abc import Iterable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from quell.configs.support.atomic_files import naming
from quell.launch.studies.results import MIN_EVALUATIONS, RunResult

BASELINE_SHADES = {"PSNR noisy": "0.6", "PSNR NLM": "0.2"}
"""Column of a baseline -> grey level of its line."""


def draw(runs: list[RunResult], path: Path) -> bool:
    """Draw the plot into a file; False, without a file, if no run has anything to draw."""
    logged = [run for run in runs if run.train_events]
    evaluated = [run for run in runs if len(run.validation) >= MIN_EVALUATIONS]
    bars = _bar_columns(runs)
    panels = bool(logged) + bool(evaluated) + bool(bars)
    if not panels:
        return False
    names = list(dict.fromkeys(run.experiment for run in runs))
    figure, axes = plt.subplots(1, panels, figsize=(6.5 * panels, 3.2 + 0.25 * len(names)), squeeze=False)
    try:
        free_axes = iter(axes[0])
        if logged:
            _draw_curves(next(free_axes), logged, names)
        if evaluated:
            _draw_validation(next(free_axes), evaluated, names)
        if bars:
            _draw_bars(next(free_axes), runs, names, bars)
        figure.tight_layout()
        with naming(path):
            figure.savefig(path, dpi=110, metadata={"Software": None})
    finally:
        plt.close(figure)
    return True


def _bar_columns(runs: list[RunResult]) -> list[str]:
    """The columns with the PSNR of restored images."""
    titles = {title for run in runs for title, value in run.row.items() if value is not None}
    return sorted(title for title in titles if title.split()[0] == "PSNR" and title not in BASELINE_SHADES)


def _draw_curves(axis: plt.Axes, runs: list[RunResult], names: list[str]) -> None:
    """The followed loss of every run; the seeds of an experiment share a colour."""
    colours = plt.get_cmap("tab20")
    labelled: set[str] = set()
    for run in runs:
        steps, values = run.loss_curve()
        axis.plot(
            steps,
            values,
            lw=1.2,
            color=colours(names.index(run.experiment) % 20),
            label=None if run.experiment in labelled else run.experiment,
        )
        labelled.add(run.experiment)
    for title, label in _lines(runs).items():
        levels = _numbers(runs, title)
        if levels:
            axis.axhline(sum(levels) / len(levels), color="k", ls="--", lw=1, label=label)
    followed = next((run.curve_title for run in runs if run.followed_loss), None)
    axis.set_xlabel("step")
    axis.set_ylabel(f"{followed} loss (training)" if followed else "loss (training)")
    axis.legend(fontsize=7)


def _draw_validation(axis: plt.Axes, runs: list[RunResult], names: list[str]) -> None:
    """PSNR on the validation split over the steps, in the colours of the losses, with a dot where it is highest."""
    colours = plt.get_cmap("tab20")
    for run in runs:
        steps, values = [v.step for v in run.validation], [v.psnr for v in run.validation]
        colour = colours(names.index(run.experiment) % 20)
        axis.plot(steps, values, lw=1.2, color=colour)
        best = values.index(max(values))
        axis.plot(steps[best], values[best], "o", ms=4, color=colour)
    axis.set_xlabel("step")
    axis.set_ylabel("PSNR on the validation split (dB)")


def _lines(runs: list[RunResult]) -> dict[str, str]:
    """Title -> label of the columns that are drawn as a line across the curves."""
    return {column.title: column.line_label for run in runs for column in run.report_columns if column.line_label}


def _draw_bars(axis: plt.Axes, runs: list[RunResult], names: list[str], columns: list[str]) -> None:
    """Mean PSNR over seeds; the whiskers are half the distance from the worst seed to the best."""
    height = 0.8 / len(columns)
    for offset, column in enumerate(columns):
        positions, means, spreads = [], [], []
        for number, name in enumerate(names):
            values = _numbers((run for run in runs if run.experiment == name), column)
            if values:
                positions.append(number + (offset - (len(columns) - 1) / 2) * height)
                means.append(sum(values) / len(values))
                spreads.append((max(values) - min(values)) / 2)
        axis.barh(positions, means, height, xerr=spreads if any(spreads) else None, color=f"C{offset}", label=column)
    for column, shade in BASELINE_SHADES.items():
        levels = _numbers(runs, column)
        if levels:
            axis.axvline(sum(levels) / len(levels), color=shade, ls="--", lw=1, label=column)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("PSNR on the test split (dB)")
    axis.legend(fontsize=7)


def _numbers(runs: Iterable[RunResult], column: str) -> list[float]:
    return [value for run in runs for value in [run.row.get(column)] if isinstance(value, float)]
