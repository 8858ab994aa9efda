"""Noise that is drawn to a spectrum and a map: its covariance, in every window and orientation of an image."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from quell.losses.noise.model import FieldNoise, spectrum_of_kernel
from quell.pipelines.common import recorruption, rician
from quell.pipelines.common.noise_sampling import ORIENTATIONS, NoiseShape, Size, oriented, undo_orientation
from quell.shards.reading.draws.geometry import Geometries

STREAKS = np.outer([1.0, 0.5], [1, 4, 6, 4, 1])
"""A kernel that differs along rows and columns."""
SKEW = np.array([[1.0, 0.8, 0.0], [0.0, 0.8, 0.0], [0.0, 0.0, 0.5]])
"""A kernel without any mirror symmetry."""
SIZE = Size(16, 16)


def correlated(kernel: NDArray[np.float64], level_map: NDArray[np.float64] | None = None) -> NoiseShape:
    return NoiseShape(FieldNoise(1.0, spectrum_of_kernel(kernel, 16), level_map))


def covariance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Between every pixel of a and every pixel of b, over the images."""
    return a.flatten(1).T @ b.flatten(1) / len(a)


@pytest.mark.parametrize("kernel", [STREAKS, SKEW])
def test_the_recorrupted_images_have_independent_noise_up_to_the_borders(kernel: NDArray[np.float64]) -> None:
    shape, draws = correlated(kernel), 8_000
    random = np.random.default_rng(0)
    white = random.standard_normal((draws, 32, 32))
    scale = np.sqrt((kernel**2).sum())
    noise = np.fft.irfft2(np.fft.rfft2(white) * np.fft.rfft2(kernel / scale, s=(32, 32)), s=(32, 32))
    noisy = torch.from_numpy(noise[:, None, 8:24, 8:24])  # a window of an image: no border meets another one
    margin = shape.margin_px
    normal = torch.from_numpy(random.standard_normal((draws, 1, 16 + margin, 16 + margin)))
    first, second = recorruption.gaussian(noisy, shape.coloured(normal, SIZE), sigma=1.0, alpha=0.5)
    error = 5 * np.sqrt(1.25 * 5.0 / draws)  # five standard errors
    assert covariance(first, second).abs().max() < error
    wrapped = shape.coloured(normal[..., :16, :16], SIZE)  # without the margin, opposite borders are tied
    first, second = recorruption.gaussian(noisy, wrapped, sigma=1.0, alpha=0.5)
    assert covariance(first, second).abs().max() > 1.5 * error


def test_white_noise_is_the_numbers_themselves() -> None:
    normal = torch.randn(2, 1, 16, 16)
    assert torch.equal(NoiseShape(FieldNoise(0.3)).coloured(normal, SIZE), normal)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirror", [(False, False), (True, False), (False, True), (True, True)])
def test_noise_of_a_turned_window_is_turned(mirror: tuple[bool, bool], turns: int) -> None:
    level_map = 1 + np.arange(48.0 * 40).reshape(48, 40) / 1000
    shape = correlated(SKEW, level_map)
    rows, columns, quarter = (np.array([value]) for value in (*mirror, turns))
    geometry = Geometries.identity(1)._replace(mirror_rows=rows, mirror_columns=columns, quarter_turns=quarter).turns()
    window = torch.tensor([[10, 20, 48, 40, *map(int, mirror), turns]])
    normal = torch.randn(1, 2, 24, 24)
    upright = shape.coloured(normal, SIZE)[0].permute(1, 2, 0).numpy()
    turned = shape.coloured(normal, SIZE, window)[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(turned, geometry.apply(0, upright))
    expected = geometry.apply(0, shape.noise.map_at(48, 40)[10:26, 20:36])
    np.testing.assert_allclose(shape.levels(SIZE, window)[0, 0], expected, rtol=1e-5)


def test_a_map_is_stretched_over_the_whole_image() -> None:
    noise = FieldNoise(1.0, None, np.array([[1.0, 2.0, 1.5], [3.0, 4.0, 2.0]]))
    levels = NoiseShape(noise).levels(Size(40, 60))[0, 0].double().numpy()
    expected = noise.map_at(40, 60)
    np.testing.assert_allclose(levels / levels[0, 0], expected / expected[0, 0], rtol=1e-5)


def test_only_orientations_that_keep_the_spectrum_count_as_equal_noise() -> None:
    blur = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]).astype(float)
    assert NoiseShape(FieldNoise(1.0)).orientations() == list(range(8))
    assert correlated(blur).orientations() == list(range(8))
    assert correlated(STREAKS).orientations() == [0, 2, 4, 6]
    assert correlated(SKEW).orientations() == [0, 2]


def test_haar_coefficients_of_correlated_noise_are_weaker() -> None:
    shape = correlated(np.outer([1, 2, 1], [1, 2, 1]).astype(float))
    noise = shape.coloured(torch.randn(64, 1, 128, 128, generator=torch.Generator().manual_seed(0)), Size(128, 128))
    estimated = float(recorruption.estimated_sigma(noise).mean())
    assert estimated == pytest.approx(shape.haar_gain(), rel=0.02)


@pytest.mark.parametrize("orientation", range(ORIENTATIONS))
def test_orientations_are_undone(orientation: int) -> None:
    image = torch.randn(1, 2, 5, 7)
    assert torch.equal(undo_orientation(oriented(image, orientation), orientation), image)


def test_the_noise_of_magnitudes_without_signal_is_weaker_and_less_correlated() -> None:
    shape, size, generator = correlated(STREAKS), Size(96, 96), torch.Generator().manual_seed(0)
    real, imaginary = (shape.coloured(torch.randn(40, 1, 96, 96, generator=generator), size) for _ in range(2))
    magnitude = 0.2 * torch.hypot(real, imaginary)
    sigma = torch.full((40, 1, 1, 1), 0.2)
    spread = rician.spread(magnitude, sigma)
    assert float(spread.mean()) == pytest.approx(float(magnitude.std()) / 0.2, rel=0.05)
    assert float(rician.spread(magnitude + 2, sigma).mean()) == pytest.approx(1, rel=0.01)
    found = float(((magnitude - magnitude.mean())[..., 1:] * (magnitude - magnitude.mean())[..., :-1]).mean())
    expected = shape.of_magnitudes().noise.correlation(0, 1)
    assert found / float(magnitude.var()) == pytest.approx(expected, abs=0.05)
    assert expected < shape.noise.correlation(0, 1) - 0.1
