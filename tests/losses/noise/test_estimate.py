"""Noise estimated from images: level and correlation with and without clean images, and what is refused."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from quell.configs.errors import DataError
from quell.losses.noise.estimate import estimate_noise

Array = NDArray[np.float64]


def anatomy(number: int, size: int = 128) -> Array:
    """Ellipses with texture on a dark background, in 0..1."""
    random = np.random.default_rng(number)
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    image = np.zeros((size, size))
    for _ in range(6):
        centre, radii = random.uniform(-0.4, 0.4, 2), random.uniform(0.15, 0.5, 2)
        inside = ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 < 1
        image[inside] = (
            random.uniform(0.1, 0.9) * (1 + 0.1 * gaussian_filter(random.normal(size=(size, size)), 2))[inside]
        )
    return image


def blurred(random: np.random.Generator, blur: float, size: int = 128) -> Array:
    noise = (
        gaussian_filter(random.standard_normal((size, size)), blur, mode="wrap")
        if blur
        else random.standard_normal((size, size))
    )
    return np.asarray(0.1 * noise / noise.std())


@pytest.mark.parametrize(("blur", "correlation"), [(0.0, 0.0), (0.5, 0.26), (1.0, 0.78)])
@pytest.mark.parametrize("source", ["smooth regions", "clean images", "repeats", "background"])
def test_level_and_correlation_are_right_from_every_source(source: str, blur: float, correlation: float) -> None:
    random = np.random.default_rng(1)
    clean = [anatomy(number) for number in range(6)]
    noisy, second = ([image + blurred(random, blur) for image in clean] for _ in range(2))
    known = {
        "smooth regions": {},
        "clean images": {"clean": clean},
        "repeats": {"second": second},
        "background": {"background": [image == 0 for image in clean]},
    }[source]
    estimate = estimate_noise(noisy, **known)
    assert estimate.source == source
    assert estimate.noise.sigma == pytest.approx(0.1, rel=0.05)
    assert estimate.noise.correlation(0, 1) == pytest.approx(correlation, abs=0.04)
    assert estimate.noise.correlation(1, 0) == pytest.approx(correlation, abs=0.04)
    assert estimate.noise.is_white == (blur == 0)
    assert 0 < estimate.sigma_error < 0.005


def test_complex_images_have_the_noise_of_a_component() -> None:
    random = np.random.default_rng(1)
    noisy = [anatomy(number) * 1j + blurred(random, 1.0) + 1j * blurred(random, 1.0) for number in range(4)]
    noise = estimate_noise(noisy).noise
    assert noise.sigma == pytest.approx(0.1, rel=0.05)
    assert noise.correlation(0, 1) == pytest.approx(0.78, abs=0.04)


def test_images_without_numbers_or_too_small_are_refused() -> None:
    with pytest.raises(DataError, match="without images"):
        estimate_noise([])
    with pytest.raises(DataError, match="at least 16 pixels"):
        estimate_noise([np.zeros((8, 64))])
    with pytest.raises(DataError, match="not finite"):
        estimate_noise([np.full((64, 64), np.nan)])


def test_masked_regions_are_left_out() -> None:
    random = np.random.default_rng(1)
    inside = np.hypot(*np.mgrid[-1:1:128j, -1:1:128j]) < 0.9
    noisy = [np.where(inside, 1 + blurred(random, 1.0), 0) for _ in range(4)]
    noise = estimate_noise(noisy).noise
    assert noise.sigma == pytest.approx(0.1, rel=0.05)
    assert noise.correlation(0, 1) == pytest.approx(0.78, abs=0.04)
    with pytest.raises(DataError, match="constant, masked or clipped"):
        estimate_noise([np.ones((64, 64))])


def test_images_without_noise_have_almost_none() -> None:
    smooth = [gaussian_filter(anatomy(number), 4) for number in range(4)]
    assert estimate_noise(smooth).noise.sigma < 0.01
    assert estimate_noise([np.clip(image, 0.3, 0.6) for image in smooth]).noise.sigma < 0.01
    assert estimate_noise(smooth, clean=smooth).noise.sigma == 0
