"""The estimated noise level against the noise that was added."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from quell.configs.errors import DataError
from quell.losses.common.noise_level import noise_level, noise_levels, noise_levels_on_device


def smooth(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Smooth structure and a few sharp edges, in [0, 1]."""
    rng = np.random.default_rng(1)
    image = gaussian_filter(rng.random(shape), 6)
    image = (image - image.min()) / (image.max() - image.min())
    return np.where(image > 0.75, 1.0, image)


@pytest.mark.parametrize("sigma", [0.01, 0.1, 25.0])
def test_known_noise_is_estimated_within_five_percent(sigma: float) -> None:
    noise = sigma * np.random.default_rng(2).standard_normal((256, 256))
    clean = smooth((256, 256))
    assert noise_level(clean + noise) == pytest.approx(sigma, rel=0.05)
    assert noise_level((clean + noise).astype(np.float32)[:251, :243]) == pytest.approx(sigma, rel=0.05)


def test_estimate_of_pure_white_noise_is_unbiased() -> None:
    estimates = [noise_level(np.random.default_rng(seed).standard_normal((128, 128))) for seed in range(20)]
    assert np.mean(estimates) == pytest.approx(1.0, rel=0.01)


def test_complex_noise_is_estimated_per_component() -> None:
    rng = np.random.default_rng(3)
    clean = smooth((256, 256)) * np.exp(0.7j)
    noise = rng.standard_normal((256, 256)) * 0.05 + 1j * rng.standard_normal((256, 256)) * 0.05
    assert noise_level((clean + noise).astype(np.complex64)) == pytest.approx(0.05, rel=0.05)
    assert np.sqrt(np.mean(np.abs(noise) ** 2)) == pytest.approx(0.05 * np.sqrt(2), rel=0.02)


def test_channels_are_averaged_as_squares_and_images_estimated_separately() -> None:
    rng = np.random.default_rng(4)
    sigmas = np.array([[0.1, 0.2], [0.3, 0.3]])
    batch = rng.standard_normal((2, 2, 256, 256)) * sigmas[:, :, None, None]
    levels = noise_levels(batch)
    assert levels.shape == (2,)
    np.testing.assert_allclose(levels, np.sqrt((sigmas**2).mean(axis=1)), rtol=0.05)
    assert levels[0] == noise_level(np.moveaxis(batch[0], 0, -1))


@pytest.mark.parametrize("size", [(64, 65), (40, 41), (13, 20), (2, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_the_estimate_on_a_device_is_that_of_arrays(size: tuple[int, int], dtype: type[np.generic]) -> None:
    rng = np.random.default_rng(5)
    noisy = np.ones((3, 2, *size)) + 0.1 * rng.standard_normal((3, 2, *size))
    if dtype == np.complex64:
        noisy = noisy + 0.2j * rng.standard_normal(noisy.shape)
    noisy = noisy.astype(dtype)
    levels = noise_levels_on_device(torch.from_numpy(noisy))
    np.testing.assert_allclose(levels.numpy(), noise_levels(noisy), rtol=1e-6)


def test_noise_free_image_has_level_zero_and_a_wrong_shape_is_rejected() -> None:
    assert noise_level(np.ones((32, 32))) == pytest.approx(0, abs=1e-9)
    with pytest.raises(DataError, match=r"\(5,\)"):
        noise_level(np.ones(5))
