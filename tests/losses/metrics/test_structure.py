"""MS-SSIM, EPI and GCMSE against independent formulas."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytorch_msssim import ms_ssim as reference
from scipy.ndimage import gaussian_filter

from quell.configs.errors import DataError
from quell.losses.metrics.epi import epi
from quell.losses.metrics.epi_h import epi_h
from quell.losses.metrics.epi_v import epi_v
from quell.losses.metrics.gcmse import gcmse
from quell.losses.metrics.gcmse_per_pixel import gcmse_per_pixel
from quell.losses.metrics.ms_ssim import ms_ssim, window_for
from tests.support.images import noisy_pair

Image = NDArray[np.float64]


def pair(shape: tuple[int, ...]) -> tuple[Image, Image]:
    return noisy_pair(shape, seed=3, blur_px=4)


def terms(x: Image, y: Image, window: int) -> tuple[float, float]:
    """Mean SSIM and mean contrast-structure term of a scale, without the border that a window cannot cover."""
    radius = window // 2

    def blur(image: Image) -> Image:
        return gaussian_filter(image, 1.5, radius=radius)[radius:-radius, radius:-radius]

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y, cov = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2, blur(x * y) - mean_x * mean_y
    contrast = (2 * cov + 0.03**2) / (var_x + var_y + 0.03**2)
    luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
    return float((luminance * contrast).mean()), float(contrast.mean())


def halved(image: Image) -> Image:
    return image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2).mean((1, 3))


@pytest.mark.parametrize(("size", "window"), [((176, 192), 11), ((96, 112), 5)])
def test_ms_ssim_equals_its_formula(size: tuple[int, int], window: int) -> None:
    x, y = restored, clean = pair(size)
    expected = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        ssim, contrast = terms(x, y, window)
        expected *= (ssim if scale == 4 else contrast) ** weight
        if scale < 4:
            x, y = halved(x), halved(y)
    assert window_for(*size) == window
    assert ms_ssim(restored, clean, data_range=1) == pytest.approx(expected, abs=1e-9)


def test_ms_ssim_averages_channels_and_chooses_its_window() -> None:
    restored, clean = pair((176, 180, 3))
    planes = [torch.from_numpy(image).float().permute(2, 0, 1)[None] for image in (restored, clean)]
    assert ms_ssim(restored, clean, data_range=1) == pytest.approx(float(reference(*planes, data_range=1.0)), abs=3e-6)
    assert [window_for(side, 500) for side in (161, 160, 129, 128, 65, 64, 33)] == [11, 9, 9, 7, 5, 3, 3]
    assert ms_ssim(clean[:40, :40], clean[:40, :40], data_range=1) == pytest.approx(1)
    assert ms_ssim(clean * np.nan, clean, data_range=1) == 0
    with pytest.raises(DataError, match="32 px"):
        window_for(32, 500)
    with pytest.raises(DataError, match="160 px"):
        ms_ssim(restored[:160], clean[:160], data_range=1, window_px=11)


def test_epi_is_restored_over_clean_in_the_named_direction() -> None:
    clean = np.zeros((6, 8))
    clean[:, 4:] = 1.0
    half = clean * 0.5
    for index in (epi, epi_h):
        assert index(half, clean, data_range=1) == 0.5
    assert math.isnan(epi_v(half, clean, data_range=1)), "a clean image without such edges has no index"
    assert epi_v(0.25 * clean.T, clean.T, data_range=1) == 0.25
    restored, clean = pair((20, 30, 3))
    vertical = np.abs(restored[1:] - restored[:-1]).sum() / np.abs(clean[1:] - clean[:-1]).sum()
    assert epi_v(restored, clean, data_range=1) == pytest.approx(vertical)
    assert epi_v(restored, clean, data_range=1) > 1, "noise counts as edges"
    assert epi_v(gaussian_filter(clean, (2, 2, 0)), clean, data_range=1) < 1


def by_loops(restored: Image, clean: Image) -> float:
    height, width = clean.shape
    weighted = total = 0.0
    for i in range(height):
        for j in range(width):
            conductance = 0.0
            for di, dj in ((0, 1), (0, -1), (1, 0), (-1, 0)):
                inside = 0 <= i + di < height and 0 <= j + dj < width
                step = clean[i + di, j + dj] - clean[i, j] if inside else 0.0
                conductance += math.exp(-((step / 0.5) ** 2)) / 4
            weighted += ((1 - conductance) * (restored[i, j] - clean[i, j])) ** 2
            total += 1 - conductance
    return weighted / total


def test_gcmse_equals_its_definition_at_any_scale() -> None:
    restored, clean = pair((12, 15))
    expected = by_loops(restored, clean)
    assert gcmse_per_pixel(restored, clean, data_range=1) == pytest.approx(expected)
    assert gcmse_per_pixel(restored * 255, clean * 255, data_range=255) == pytest.approx(expected)
    assert gcmse(restored, clean, data_range=1) == pytest.approx(expected * 12 * 15)
    colour = [np.stack([image, 2 * image], axis=-1) for image in (restored, clean)]
    planes = [expected, by_loops(2 * restored, 2 * clean)]
    assert gcmse_per_pixel(*colour, data_range=1) == pytest.approx(np.mean(planes))


def test_gcmse_grows_with_the_area_and_gcmse_per_pixel_does_not() -> None:
    restored, clean = pair((40, 40))
    tiled = [np.block([[image, image[:, ::-1]], [image[::-1], image[::-1, ::-1]]]) for image in (restored, clean)]
    ratio = gcmse(*tiled, data_range=1) / gcmse(restored, clean, data_range=1)
    assert ratio == pytest.approx(4, rel=0.1)
    ratio_per_pixel = gcmse_per_pixel(*tiled, data_range=1) / gcmse_per_pixel(restored, clean, data_range=1)
    assert ratio_per_pixel == pytest.approx(1, rel=0.1)
    assert math.isnan(gcmse(restored, np.ones((40, 40)), data_range=1))


@pytest.mark.parametrize("metric", [epi, epi_h, epi_v, gcmse, gcmse_per_pixel])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_restored_image_that_is_not_finite_scores_worst(metric: Callable[..., float], value: float) -> None:
    restored, clean = pair((20, 20))
    restored[3, 4] = value
    assert metric(restored, clean, data_range=1) == math.inf
