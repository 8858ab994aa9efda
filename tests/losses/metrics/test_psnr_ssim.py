"""PSNR and SSIM against scikit-image and against their formulas."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from configs.errors import DataError
from losses.metrics.psnr import psnr
from losses.metrics.ssim import ssim


def pair(shape: tuple[int, ...], sigma: float = 0.1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(7)
    axes = (0, 1)
    clean = gaussian_filter(rng.random(shape), 3, axes=axes)
    clean = (clean - clean.min()) / (clean.max() - clean.min())
    return clean + sigma * rng.standard_normal(shape), clean


@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3)])
@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_psnr_equals_scikit_image(shape: tuple[int, ...], data_range: float) -> None:
    restored, clean = pair(shape)
    expected = peak_signal_noise_ratio(clean, restored, data_range=data_range)
    assert psnr(restored, clean, data_range=data_range) == pytest.approx(expected)


def test_psnr_of_a_constant_error_and_of_none() -> None:
    clean = np.zeros((8, 8), dtype=np.uint8)
    assert psnr(clean + np.uint8(10), clean, data_range=255) == pytest.approx(20 * math.log10(25.5))
    assert psnr(clean, clean, data_range=255) == math.inf
    assert psnr(np.full((8, 8), np.nan), clean, data_range=255) == -math.inf


def by_formula(x: NDArray[np.float64], y: NDArray[np.float64], data_range: float) -> float:
    def blur(image: NDArray[np.float64]) -> NDArray[np.float64]:
        return gaussian_filter(image, 1.5, radius=5)

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y, cov = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2, blur(x * y) - mean_x * mean_y
    numerator = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    values = numerator / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return float(values[5:-5, 5:-5].mean())


@pytest.mark.parametrize("data_range", [1.0, 2.0])
def test_ssim_equals_its_formula(data_range: float) -> None:
    restored, clean = pair((40, 50))
    assert ssim(restored, clean, data_range=data_range) == pytest.approx(by_formula(restored, clean, data_range))
    colour, clean_colour = pair((40, 50, 3))
    planes = [by_formula(colour[..., c], clean_colour[..., c], data_range) for c in range(3)]
    assert ssim(colour, clean_colour, data_range=data_range) == pytest.approx(np.mean(planes))


def test_ssim_equals_scikit_image_and_depends_on_the_range() -> None:
    restored, clean = pair((40, 50))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = structural_similarity(restored, clean, data_range=1.0, **options)
    assert ssim(restored, clean, data_range=1.0) == pytest.approx(expected)
    assert ssim(restored, clean, data_range=2.0) > ssim(restored, clean, data_range=1.0) + 0.02
    assert ssim(clean, clean, data_range=1.0) == pytest.approx(1.0)
    assert ssim(clean * np.nan, clean, data_range=1.0) == -1


def test_wrong_images_are_refused_with_a_reason() -> None:
    clean = np.zeros((12, 12))
    with pytest.raises(DataError, match="complex"):
        psnr(clean.astype(np.complex64), clean, data_range=1)
    with pytest.raises(DataError, match=r"\(12, 13\)"):
        psnr(np.zeros((12, 13)), clean, data_range=1)
    with pytest.raises(DataError, match="data_range"):
        ssim(clean, clean, data_range=0)
    with pytest.raises(DataError, match="11 px"):
        ssim(clean[:10], clean[:10], data_range=1)
    with pytest.raises(DataError, match="shape"):
        psnr(np.zeros((1, 1, 12, 12)), np.zeros((1, 1, 12, 12)), data_range=1)
