"""The plots of a comparison: intervals of all differences, the difference of every image, and agreement of two methods.

Colours are those of Okabe and Ito, which people with any colour vision can tell apart.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from quell.configs.support.atomic_files import naming
from quell.launch.comparing.comparison import Pair, Ranking
from quell.launch.comparing.directions import gain_sign
from quell.launch.comparing.text import verdict
from quell.launch.differences.figures import title

COLOURS = {"better": "#009E73", "worse": "#D55E00", "not distinguishable": "#707070"}
DOTS = "#0072B2"
AGREEMENTS = 3
"""Methods whose values are plotted against the reference's, at most."""


def draw(rankings: Sequence[Ranking], reference: int | None, folder: Path, file_format: str) -> list[Path]:
    """Draw the plots of these metrics; returns the files.

    Args:
        rankings: One per metric.
        reference: Position of the method that all are compared with; None is the best of each metric.
        folder: Where the files go.
        file_format: png or svg.
    """
    files = []
    for ranking in rankings:
        shown = ranking.places[0].method if reference is None else reference
        others = [place.method for place in ranking.places if place.method != shown]
        found = (ranking.pair(other, shown) for other in others)
        pairs = [pair for pair in found if pair is not None]
        for kind, plot in (("forest", _forest), ("differences", _differences), ("agreement", _agreement)):
            file = folder / f"{kind}_{ranking.metric}.{file_format}"
            figure = plot(ranking, pairs)
            try:
                with naming(file), matplotlib.rc_context({"svg.hashsalt": "quell"}):
                    dates = {"Date": None} if file_format == "svg" else {"Software": None}
                    figure.savefig(file, dpi=120, metadata=dates)
            finally:
                plt.close(figure)
            files.append(file)
    return files


def _forest(ranking: Ranking, pairs: Sequence[Pair]) -> plt.Figure:
    """The mean difference of each method to the reference with its interval."""
    figure, axes = plt.subplots(figsize=(7.5, 1.4 + 0.45 * len(pairs)), layout="constrained")
    for row, pair in enumerate(pairs):
        interval, outcome = pair.interval, verdict(pair)
        axes.plot([interval.low, interval.high], [row, row], color=COLOURS[outcome], linewidth=2)
        axes.plot(interval.mean, row, "o", color=COLOURS[outcome])
        axes.annotate(outcome, (1.01, row), xycoords=("axes fraction", "data"), va="center", color=COLOURS[outcome])
    _label(axes, ranking, pairs)
    axes.set_title("mean difference and its 95 % interval; verdicts are corrected for all tests", fontsize=9)
    return figure


def _differences(ranking: Ranking, pairs: Sequence[Pair]) -> plt.Figure:
    """The difference of every unit, and the median."""
    figure, axes = plt.subplots(figsize=(7.5, 1.4 + 0.6 * len(pairs)), layout="constrained")
    for row, pair in enumerate(pairs):
        spread = np.random.default_rng(0).uniform(-0.22, 0.22, len(pair.differences))  # so that dots do not hide others
        axes.plot(pair.differences, row + spread, "o", color=DOTS, alpha=0.55, markersize=4)
        axes.plot([pair.median] * 2, [row - 0.33, row + 0.33], color="black", linewidth=1.5)
    _label(axes, ranking, pairs)
    axes.set_title(
        f"difference in each of {ranking.units.count} {ranking.units.word}; the line is the median", fontsize=9
    )
    return figure


def _agreement(ranking: Ranking, pairs: Sequence[Pair]) -> plt.Figure:
    """For the methods next to the reference: values against values, and differences against means (Bland-Altman)."""
    shown = pairs[:AGREEMENTS]
    figure, grid = plt.subplots(len(shown), 2, figsize=(9, 3.9 * len(shown)), squeeze=False, layout="constrained")
    for (scatter, altman), pair in zip(grid, shown, strict=True):
        first, second = (ranking.unit_values[i].mean(axis=0) for i in (pair.first, pair.second))
        names = [ranking.methods[i].name for i in (pair.first, pair.second)]
        limits = min(first.min(), second.min()), max(first.max(), second.max())
        scatter.plot(limits, limits, color="0.6", linewidth=1)
        scatter.plot(second, first, "o", color=DOTS, alpha=0.6, markersize=4)
        scatter.set(xlabel=f"{names[1]}, {title(ranking.metric)}", ylabel=names[0])
        each = "group, as its mean," if ranking.units.are_groups else "image,"
        scatter.set_title(f"every {each} and where both would be equal", fontsize=9)
        difference, mean = first - second, (first + second) / 2
        altman.plot(mean, difference, "o", color=DOTS, alpha=0.6, markersize=4)
        centre, spread = difference.mean(), difference.std(ddof=1) if len(difference) > 1 else 0.0
        for level, style in ((centre, "-"), (centre - 1.96 * spread, "--"), (centre + 1.96 * spread, "--")):
            altman.axhline(level, color="black", linestyle=style, linewidth=1)
        altman.axhline(0, color="0.6", linewidth=1)
        altman.set(xlabel=f"mean of both, {title(ranking.metric)}", ylabel="difference")
        altman.set_title("Bland-Altman: mean, limits of agreement", fontsize=9)
    return figure


def _label(axes: Axes, ranking: Ranking, pairs: Sequence[Pair]) -> None:
    """Name the rows, and say which side is better."""
    reference = ranking.methods[pairs[0].second].name
    axes.axvline(0, color="0.6", linewidth=1)
    axes.set_yticks(range(len(pairs)), [ranking.methods[pair.first].name for pair in pairs])
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    side = "right" if gain_sign(ranking.metric) > 0 else "left"
    axes.set_xlabel(f"{title(ranking.metric)}: difference to {reference} (better to the {side})")
