"""Checks of a restoration without truth: right for good ones, and not to be fooled by wrong ones of the right size."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from quell.losses.common import cached_parts
from quell.losses.noise.model import Array, FieldNoise, spectrum_of_kernel
from quell.losses.noise.residuals import ResidualChecks, check_residual, check_residuals

SHAPE = (160, 144)
SIGMA = 0.1


def _kernel() -> Array:
    impulse = np.zeros((13, 13))
    impulse[6, 6] = 1
    return np.asarray(gaussian_filter(impulse, 1.0))


def _ramp() -> Array:
    return np.linspace(0.5, 2.0, 12)[None].repeat(12, 0)


NOISES = {
    "white": FieldNoise(SIGMA),
    "correlated": FieldNoise(SIGMA, spectrum_of_kernel(_kernel())),
    "varying": FieldNoise(SIGMA, level_map=_ramp() / np.sqrt(np.mean(_ramp() ** 2))),
}


def clean() -> Array:
    """Discs and bars with sharp edges on a smooth background."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    image = 0.4 + 0.1 * np.sin(x / 30) * np.cos(y / 25)
    for row, column, radius, value in ((40, 40, 20, 0.4), (100, 90, 30, -0.3), (120, 30, 12, 0.5), (50, 110, 8, 0.3)):
        image[(y - row) ** 2 + (x - column) ** 2 < radius**2] += value
    image[:, 70:74] += 0.3
    return np.asarray(image)


def checks(kind: str, restored: str) -> ResidualChecks:
    """The checks of one way to restore an image with noise of a kind."""
    noise, random, truth = NOISES[kind], np.random.default_rng(3), clean()
    sample = noise.sample(random, SHAPE)
    noisy = truth + sample
    results = {
        "truth": truth,
        "good": truth + 0.1 * gaussian_filter(sample, 1),
        "nothing": noisy,
        "half": truth + 0.7 * sample,
        "blurred": gaussian_filter(noisy, 3),
        "edges kept out": noisy - sample + 0.5 * (truth - gaussian_filter(truth, 2)),
        "white noise removed": noisy - 0.92 * SIGMA * random.standard_normal(SHAPE),
        "offset": truth + 0.2,
    }
    return check_residual(noisy, results[restored], noise)


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("restored", ["truth", "good"])
def test_good_restorations_pass(kind: str, restored: str) -> None:
    result = checks(kind, restored)
    assert result.removed == pytest.approx(1, abs=0.1)
    assert result.excess < 0.08 and result.missing < 0.2 and result.structure < 0.15 and result.added < 0.1


@pytest.mark.parametrize("kind", NOISES)
def test_noise_that_is_left_is_missing(kind: str) -> None:
    assert checks(kind, "nothing").missing == pytest.approx(1, abs=0.05)
    assert checks(kind, "half").missing > 0.8


@pytest.mark.parametrize("kind", NOISES)
def test_a_blur_removes_structure(kind: str) -> None:
    result = checks(kind, "blurred")
    assert result.structure > 0.4


def test_a_residual_of_the_right_size_and_the_wrong_spectrum_is_caught() -> None:
    result = checks("correlated", "white noise removed")
    assert result.removed == pytest.approx(0.92, abs=0.03), "the size alone says that all is well"
    assert result.missing > 0.6 and result.excess > 0.4


@pytest.mark.parametrize("kind", NOISES)
def test_removing_something_that_is_not_in_the_image_is_caught(kind: str) -> None:
    assert checks(kind, "white noise removed").added > 0.6


def test_a_shifted_level_is_excess() -> None:
    assert checks("white", "offset").excess > 2


def test_complex_images_are_measured_per_component() -> None:
    noise, random = NOISES["correlated"], np.random.default_rng(5)
    sample = noise.sample(random, SHAPE) + 1j * noise.sample(random, SHAPE)
    result = check_residual(clean() + sample, clean().astype(complex), noise)
    assert result.removed == pytest.approx(1, abs=0.05) and result.excess < 0.08 and result.missing < 0.1


def test_without_noise_there_is_nothing_to_compare() -> None:
    assert all(np.isnan(check_residual(clean(), clean(), FieldNoise(0.0))))


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
@pytest.mark.parametrize("shape", [(96, 97), (33, 13), (9, 60)])
@pytest.mark.parametrize("kind", NOISES)
def test_planes_on_a_device_are_checked_as_arrays_are(
    kind: str, shape: tuple[int, int], dtype: type[np.generic], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached_parts, "CPU_ELEMENTS", 2 * shape[0] * shape[1])
    noise, random = NOISES[kind], np.random.default_rng(3)
    truth = clean()[20 : 20 + shape[0], 30 : 30 + shape[1]]
    noisy = [truth + noise.sample(random, shape) for _ in range(5)]
    if dtype == np.complex64:
        noisy = [image + 1j * noise.sample(random, shape) for image in noisy]
    restored = [noisy[0], truth, gaussian_filter(noisy[2], 1.5), noisy[3] + truth, np.zeros(shape)]
    noisy_PHW, restored_PHW = (np.stack(images).astype(dtype) for images in (noisy, restored))
    planes = torch.from_numpy(noisy_PHW), torch.from_numpy(restored_PHW)
    measured = check_residuals(*planes, noise).numpy()
    expected = np.array([check_residual(a, b, noise) for a, b in zip(noisy_PHW, restored_PHW, strict=True)])
    np.testing.assert_allclose(measured.T, expected, rtol=1e-6, atol=1e-6)
    assert np.isnan(check_residuals(*planes, FieldNoise(0.0)).numpy()).all()
