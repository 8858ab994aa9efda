"""PSNR and SSIM against scikit-image and against their formulas."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from quell.configs.errors import DataError
from quell.losses.metrics.psnr import psnr
from quell.losses.metrics.ssim import ssim
from tests.support.images import noisy_pair


@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3)])
@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_psnr_equals_scikit_image(shape: tuple[int, ...], data_range: float) -> None:
    restored, clean = noisy_pair(shape, seed=7)
    expected = peak_signal_noise_ratio(clean, restored, data_range=data_range)
    assert psnr(restored, clean, data_range=data_range) == pytest.approx(expected)


def test_psnr_of_a_constant_error_and_of_equal_images() -> None:
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
    restored, clean = noisy_pair((40, 50), seed=7)
    assert ssim(restored, clean, data_range=data_range) == pytest.approx(by_formula(restored, clean, data_range))
    colour, clean_colour = noisy_pair((40, 50, 3), seed=7)
    planes = [by_formula(colour[..., c], clean_colour[..., c], data_range) for c in range(3)]
    assert ssim(colour, clean_colour, data_range=data_range) == pytest.approx(np.mean(planes))


def test_ssim_equals_scikit_image_and_depends_on_the_data_range() -> None:
    restored, clean = noisy_pair((40, 50), seed=7)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = structural_similarity(restored, clean, data_range=1.0, **options)
    assert ssim(restored, clean, data_range=1.0) == pytest.approx(expected)
    assert ssim(restored, clean, data_range=2.0) > ssim(restored, clean, data_range=1.0) + 0.02
    assert ssim(clean, clean, data_range=1.0) == pytest.approx(1.0)
    assert ssim(clean * np.nan, clean, data_range=1.0) == -1


def test_unsuitable_images_are_rejected_with_the_reason() -> None:
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
