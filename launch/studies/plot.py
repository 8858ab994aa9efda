"""The picture of a comparison: how the loss fell in each run, and how far each got beyond the noisy images."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from launch.studies.results import Measured, loss_key

COLUMNS = ("PSNR", "PSNR cross path", "PSNR same path")
LINES = {"PSNR noisy": "0.6", "PSNR NLM": "0.2"}


def draw(runs: list[Measured], path: Path) -> bool:
    """Write the picture; False when no run has anything to draw."""
    logged = [run for run in runs if run.train]
    bars = [column for column in COLUMNS if any(run.row.get(column) is not None for run in runs)]
    panels = [bool(logged), bool(bars)]
    if not any(panels):
        return False
    names = list(dict.fromkeys(run.experiment for run in runs))
    figure, axes = plt.subplots(1, sum(panels), figsize=(6.5 * sum(panels), 3.2 + 0.25 * len(names)), squeeze=False)
    try:
        places = iter(axes[0])
        if logged:
            _curves(next(places), logged, names)
        if bars:
            _bars(next(places), runs, names, bars)
        figure.tight_layout()
        figure.savefig(path, dpi=110, metadata={"Software": None})
    finally:
        plt.close(figure)
    return True


def _curves(axis: plt.Axes, runs: list[Measured], names: list[str]) -> None:
    """The training loss of every seed, one colour for each experiment."""
    colours = plt.get_cmap("tab20")
    word = "cross" if any("cross start" in run.row for run in runs) else "loss"
    for run in runs:
        key = loss_key(run.train[0])
        number = names.index(run.experiment)
        first = run is next(other for other in runs if other.experiment == run.experiment)
        axis.plot(
            [event["step"] for event in run.train],
            [event[key] for event in run.train],
            lw=1.2,
            color=colours(number % 20),
            label=run.experiment if first else None,
        )
    floors = _numbers(runs, "floor")
    if floors:
        axis.axhline(sum(floors) / len(floors), color="k", ls="--", lw=1, label="noise floor")
    axis.set_xlabel("step")
    axis.set_ylabel(f"{word} loss (training)")
    axis.legend(fontsize=7)


def _bars(axis: plt.Axes, runs: list[Measured], names: list[str], columns: list[str]) -> None:
    """Means over seeds; the whiskers are half the distance from the worst seed to the best."""
    height = 0.8 / len(columns)
    for offset, column in enumerate(columns):
        places, means, spreads = [], [], []
        for number, name in enumerate(names):
            found = _numbers([run for run in runs if run.experiment == name], column)
            if found:
                places.append(number + (offset - (len(columns) - 1) / 2) * height)
                means.append(sum(found) / len(found))
                spreads.append((max(found) - min(found)) / 2)
        axis.barh(places, means, height, xerr=spreads if any(spreads) else None, color=f"C{offset}", label=column)
    for column, shade in LINES.items():
        levels = _numbers(runs, column)
        if levels:
            axis.axvline(sum(levels) / len(levels), color=shade, ls="--", lw=1, label=column)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("PSNR on the test split (dB)")
    axis.legend(fontsize=7)


def _numbers(runs: list[Measured], column: str) -> list[float]:
    return [value for run in runs for value in [run.row.get(column)] if isinstance(value, float)]
