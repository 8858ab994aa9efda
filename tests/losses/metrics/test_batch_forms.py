"""The batch forms of metrics against their functions on arrays, on a CPU in float32."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from quell.configs.errors import DataError
from quell.configs.registry import names
from quell.launch.evaluation.measuring import metrics
from quell.losses.common import cached_parts
from quell.losses.metrics.common.batch_form import BatchForm

Image = NDArray[np.floating]

TOLERANCE = 1e-6
"""Absolute, and relative to values above 1."""

WITHOUT_WEIGHTS = [
    name for name, metric in metrics.find(names(metrics.FOLDER)).items() if metric.needs_clean and name != "lpips"
]
"""Metrics that compare with a clean image; LPIPS, which needs files of weights, has a test of its own."""


def pair(kind: str, shape: tuple[int, int, int], seed: int) -> tuple[Image, Image]:
    """A restored and a clean image (H, W, C)."""
    rng = np.random.default_rng(seed)
    clean = gaussian_filter(rng.random(shape), (4, 4, 0))
    clean = (clean - clean.min()) / np.ptp(clean)
    sigma = 0.05
    if kind == "steps":  # nearly equal images of two levels: variances are differences of almost equal numbers
        clean, sigma = np.where(clean > 0.5, 1.0, 0.0), 1e-4
    if kind == "far from 0":
        clean = clean + 30
    if kind == "16 bits":
        clean, sigma = clean * 65535, 3000
    restored = clean + sigma * rng.standard_normal(shape)
    return restored.astype(np.float32), clean.astype(np.float32)


def batch_of(images: list[list[Image]]) -> Tensor:
    """Rows of images as a tensor (K, N, C, H, W)."""
    return torch.from_numpy(np.moveaxis(np.array(images), -1, 2).copy())


def by_batch(name: str, restored: list[list[Image]], clean: list[Image], data_range: float) -> NDArray[np.float64]:
    """(K, N) values of the metric's batch form."""
    form = metrics.find([name])[name].batch_form
    assert isinstance(form, BatchForm)
    numbers = form(batch_of(restored) / data_range, batch_of([clean])[0] / data_range)
    assert numbers.dtype == torch.float32
    return form.finish(numbers.double().numpy(), data_range)


def by_arrays(name: str, restored: list[list[Image]], clean: list[Image], data_range: float) -> NDArray[np.float64]:
    """(K, N) values of the metric's function."""
    function = metrics.find([name])[name].function
    rows = [
        [function(np.squeeze(x), np.squeeze(y), data_range=data_range) for x, y in zip(row, clean, strict=True)]
        for row in restored
    ]
    return np.array(rows)


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
@pytest.mark.parametrize(
    ("kind", "shape", "data_range"),
    [
        ("noise", (70, 65, 1), 1.0),
        ("noise", (64, 83, 3), 1.0),
        ("steps", (66, 64, 1), 1.0),
        ("far from 0", (64, 64, 1), 40.0),
        ("16 bits", (165, 164, 1), 65535.0),
    ],
)
def test_a_batch_is_measured_as_its_arrays_are(
    name: str, kind: str, shape: tuple[int, int, int], data_range: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached_parts, "CPU_ELEMENTS", 4 * shape[0] * shape[1] * shape[2])
    first, second, third = (pair(kind, shape, seed) for seed in range(3))
    clean = [y for _, y in (first, second, third)]
    similar: list[Image] = [first[1], (second[0] + second[1]) / 2, third[0] * 0.9]
    restored = [[x for x, _ in (first, second, third)], similar]
    expected = by_arrays(name, restored, clean, data_range)
    np.testing.assert_allclose(by_batch(name, restored, clean, data_range), expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_extreme_images_score_as_their_arrays_do(name: str) -> None:
    restored, clean = pair("noise", (48, 50, 1), 0)
    spoilt = [restored.copy() for _ in range(2)]
    spoilt[0][3, 4], spoilt[1][3, 4] = math.nan, math.inf
    images: list[list[Image]] = [[*spoilt, restored * 1e12, clean, -restored]]
    expected = by_arrays(name, images, [clean] * 5, 1.0)
    np.testing.assert_allclose(by_batch(name, images, [clean] * 5, 1.0), expected, rtol=TOLERANCE, atol=TOLERANCE)
    flat = np.zeros_like(clean)
    expected = by_arrays(name, [[restored, flat]], [flat, flat], 1.0)
    measured = by_batch(name, [[restored, flat]], [flat, flat], 1.0)
    np.testing.assert_allclose(measured, expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["ssim", "ms_ssim"])
def test_even_images_of_few_levels_that_differ_everywhere_are_measured_within_5e_6(name: str) -> None:
    """The worst for float32: where both images are even, all of the dissimilarity is rounding."""
    clean, other = (np.where(pair("noise", (66, 64, 1), seed)[1] > 0.5, 0.93, 0.0) for seed in (0, 1))
    images = [[image.astype(np.float32) for image in (other, np.full_like(clean, 0.3), 0.7 * clean)]]
    expected = by_arrays(name, images, [clean.astype(np.float32)] * 3, 1.0)
    np.testing.assert_allclose(by_batch(name, images, [clean.astype(np.float32)] * 3, 1.0), expected, atol=5e-6)


@pytest.mark.parametrize(("name", "side"), [("ssim", 10), ("ms_ssim", 32)])
def test_images_that_are_too_small_are_refused_with_the_reason(name: str, side: int) -> None:
    restored, clean = pair("noise", (side, 64, 1), 0)
    for measure in (by_batch, by_arrays):
        with pytest.raises(DataError, match=f"{side + 1 if name == 'ssim' else side} px a side, got"):
            measure(name, [[restored]], [clean], 1.0)
