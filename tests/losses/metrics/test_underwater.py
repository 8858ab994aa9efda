"""UIQM and UCIQE against independent computations, and their response to washed-out colours."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from quell.configs.errors import DataError
from quell.losses.metrics.uciqe import uciqe
from quell.losses.metrics.uiqm import BLOCK_PX, colourfulness, contrast, sharpness, uiqm

Image = NDArray[np.float64]


def scene() -> Image:
    """Coloured squares with a texture, in [0, 1]."""
    rng = np.random.default_rng(2)
    patches = rng.random((4, 5, 3)).repeat(11, axis=0).repeat(9, axis=1)
    return np.clip(patches + 0.05 * rng.standard_normal(patches.shape), 0.02, 0.98)


def by_loops(image: Image) -> tuple[float, float, float]:
    """The three parts of UIQM of an image in 0..255, pixel by pixel."""
    size = image.shape[0] * image.shape[1]
    means, spread = [], 0.0
    for opponent in (image[..., 0] - image[..., 1], (image[..., 0] + image[..., 1]) / 2 - image[..., 2]):
        kept = sorted(opponent.ravel().tolist())[math.ceil(0.1 * size) : size - math.ceil(0.1 * size)]
        means.append(sum(kept) / len(kept))
        spread += sum((v - means[-1]) ** 2 for v in opponent.ravel().tolist()) / size
    colour = -0.0268 * math.sqrt(means[0] ** 2 + means[1] ** 2) + 0.1586 * math.sqrt(spread)
    rows, columns = image.shape[0] // BLOCK_PX, image.shape[1] // BLOCK_PX
    sharp = contrasts = 0.0
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="symmetric")
    across = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    down = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    strength = np.sqrt((across[:, 2:] - across[:, :-2]) ** 2 + (down[2:] - down[:-2]) ** 2)
    edges = image * strength / strength.max(axis=(0, 1)) * 255
    for i in range(rows):
        for j in range(columns):
            block = np.s_[i * BLOCK_PX : (i + 1) * BLOCK_PX, j * BLOCK_PX : (j + 1) * BLOCK_PX]
            for c, weight in enumerate((0.299, 0.587, 0.114)):
                values = edges[block][..., c]
                sharp += weight * 2 * math.log(values.max() / values.min()) if values.min() > 0 else 0.0
            ratio = (image[block].max() - image[block].min()) / (image[block].max() + image[block].min())
            contrasts -= ratio * math.log(ratio)
    return colour, sharp / (rows * columns), contrasts / (rows * columns)


def test_uiqm_equals_its_definition_in_any_range() -> None:
    image = scene()
    colour, sharp, contrasts = by_loops(image * 255)
    assert colourfulness(image * 255) == pytest.approx(colour)
    assert sharpness(image * 255) == pytest.approx(sharp)
    assert contrast(image * 255) == pytest.approx(contrasts)
    expected = 0.0282 * colour + 0.2953 * sharp + 3.5753 * contrasts
    assert uiqm(image, data_range=1) == pytest.approx(expected)
    assert uiqm(image * 1023, data_range=1023) == pytest.approx(expected)


def test_uiqm_of_flat_and_black_images_is_finite() -> None:
    assert uiqm(np.zeros((20, 20, 3)), data_range=1) == 0
    assert uiqm(np.full((20, 20, 3), 0.4), data_range=1) == 0
    image = scene()
    image[:15] = 0
    assert math.isfinite(uiqm(image, data_range=1))


def lab_of(colour: tuple[float, float, float]) -> tuple[float, float, float]:
    """CIELab of an sRGB colour, from the formulas of the standard."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in colour]
    matrix = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
    white = (0.95047, 1.0, 1.08883)
    ratios = [sum(m * v for m, v in zip(row, linear, strict=True)) / w for row, w in zip(matrix, white, strict=True)]
    x, y, z = (r ** (1 / 3) if r > 0.008856 else 7.787 * r + 16 / 116 for r in ratios)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def test_uciqe_equals_its_definition() -> None:
    image = scene()
    lab = np.array([lab_of(tuple(pixel)) for pixel in image.reshape(-1, 3)]) / 100
    chroma = np.sqrt(lab[:, 1] ** 2 + lab[:, 2] ** 2)
    lightness = np.sort(lab[:, 0])
    position = 0.99 * (len(lightness) - 1)
    index, fraction = int(position), position - int(position)
    high = lightness[index] * (1 - fraction) + lightness[index + 1] * fraction
    mirrored = -np.sort(-lightness)
    low = mirrored[index] * (1 - fraction) + mirrored[index + 1] * fraction
    saturation = chroma / np.sqrt(chroma**2 + lab[:, 0] ** 2)
    expected = 0.4680 * chroma.std() + 0.2745 * (high - low) + 0.2576 * saturation.mean()
    assert uciqe(image, data_range=1) == pytest.approx(expected, rel=1e-3)
    assert uciqe(image * 255, data_range=255) == pytest.approx(uciqe(image, data_range=1))
    assert uciqe(np.zeros((12, 12, 3)), data_range=1) == pytest.approx(0, abs=1e-6)


def test_washed_out_colours_score_lower() -> None:
    image = scene()
    washed = 0.3 * image + 0.7 * image.mean(axis=(0, 1))
    assert uciqe(washed, data_range=1) < uciqe(image, data_range=1)
    assert colourfulness(washed * 255) < colourfulness(image * 255)
    assert contrast(washed * 255) > contrast(image * 255), "documented oddity: contrast scores best at 1/e"


def test_restored_image_that_is_not_finite_scores_worst() -> None:
    for value in (math.nan, math.inf):
        image = scene()
        image[2, 3, 1] = value
        assert uiqm(image, data_range=1) == uciqe(image, data_range=1) == -math.inf


def test_grey_and_tiny_images_are_rejected() -> None:
    for metric in (uiqm, uciqe):
        with pytest.raises(DataError, match="RGB"):
            metric(np.zeros((20, 20)), data_range=1)
    with pytest.raises(DataError, match="10 px"):
        uiqm(np.zeros((9, 20, 3)), data_range=1)
