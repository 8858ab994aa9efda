"""The picture of an audit: per field its spectrum, its correlations, its map, and its level by brightness."""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from quell.losses.noise.audit import NoiseAudit
from quell.losses.noise.estimate import Estimate

LAG = 4
"""Largest lag of the table of correlations, in pixels."""
MAP = 64
"""Side of the map that is drawn, in pixels."""


def draw(audit: NoiseAudit, path: Path) -> None:
    """Draw the audit into a file: a row per field."""
    rows = len(audit.estimates)
    figure, axes = plt.subplots(rows, 4, figsize=(16, 3.6 * rows), squeeze=False, layout="constrained")
    try:
        for line, (name, estimate) in zip(axes, audit.estimates.items(), strict=True):
            _spectrum(line[0], name, estimate)
            _lags(line[1], estimate)
            _map(line[2], estimate)
            _brightness(line[3], estimate)
        figure.savefig(path, dpi=110)
    finally:
        plt.close(figure)


def _spectrum(axes: Axes, name: str, estimate: Estimate) -> None:
    power = np.fft.fftshift(estimate.power / max(float(estimate.power.mean()), 1e-300))
    shown = axes.imshow(10 * np.log10(np.maximum(power, 1e-3)), extent=(-0.5, 0.5, 0.5, -0.5), cmap="viridis")
    axes.set_title(f"{name}: sigma {estimate.noise.sigma:.4g}, {estimate.noise.kind}")
    axes.set_xlabel("power spectrum in dB, cycles per pixel")
    axes.figure.colorbar(shown, ax=axes)


def _lags(axes: Axes, estimate: Estimate) -> None:
    noise = estimate.noise
    reach = range(-LAG, LAG + 1)
    table = np.array([[noise.correlation(row, column) for column in reach] for row in reach])
    axes.imshow(table, vmin=-1, vmax=1, cmap="RdBu_r", extent=(-LAG - 0.5, LAG + 0.5, LAG + 0.5, -LAG - 0.5))
    for row in reach:
        for column in reach:
            value = table[row + LAG, column + LAG]
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6)
    axes.set_title("correlation by lag" + (" (white)" if noise.is_white else ""))
    axes.set_xlabel("lag in pixels")


def _map(axes: Axes, estimate: Estimate) -> None:
    shown = axes.imshow(estimate.noise.map_at(MAP, MAP), extent=(0, 1, 1, 0), cmap="magma", vmin=0)
    axes.set_title("standard deviation over the image")
    axes.figure.colorbar(shown, ax=axes)


def _brightness(axes: Axes, estimate: Estimate) -> None:
    axes.plot(estimate.samples[:, 0], estimate.samples[:, 1], ".", markersize=3, alpha=0.4)
    axes.set_title(f"level by signal: {estimate.signal}")
    axes.set_xlabel("mean of the image in a patch")
    axes.set_ylim(bottom=0)
