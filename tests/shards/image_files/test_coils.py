"""Coil combination on generated k-space whose noise and sensitivities are known."""

import numpy as np
import pytest

from quell.configs.errors import DataError
from quell.losses.noise.model import FieldNoise
from quell.shards.image_files import coils

COILS, SLICES, HEIGHT, WIDTH = 4, 3, 128, 96


def sensitivities() -> np.ndarray:
    """Four smooth complex sensitivities at the sides of the image, (C, H, W)."""
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    centres = [(-1.2, 0), (1.2, 0), (0, -1.2), (0, 1.2)]
    return np.stack(
        [np.exp(-((y - a) ** 2 + (x - b) ** 2) / 2 + 1j * (a * x - b * y + n)) for n, (a, b) in enumerate(centres)]
    )


def mixing() -> np.ndarray:
    """The coils' noise: correlated, and of strengths up to four times apart."""
    random = np.random.default_rng(2)
    return np.diag([0.01, 0.02, 0.03, 0.04]) @ (np.eye(COILS) + 0.3 * random.standard_normal((COILS, COILS)))


def object_() -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    return ((y**2 + x**2 < 0.35) * (1 + 0.5 * np.sin(6 * x))).astype(complex)


def scan(seed: int = 0, keep: slice = slice(None), noise: float = 1.0) -> np.ndarray:
    """Centred k-space (S, C, H, W) of the object in every slice."""
    random = np.random.default_rng(seed)
    white = random.standard_normal((2, SLICES, COILS, HEIGHT, WIDTH))
    noisy = noise * np.einsum("dc,schw->sdhw", mixing(), white[0] + 1j * white[1])
    images = sensitivities() * object_()
    axes = (-2, -1)
    signal = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images, axes=axes), norm="ortho"), axes=axes)
    kspace = signal + noisy
    mask = np.zeros(WIDTH)
    mask[keep] = 1
    return np.asarray(kspace * mask)


def noise_of(keep: slice = slice(None)) -> tuple[np.ndarray, coils.CombinedCoils]:
    """Noise in the combined images, as half the difference of two scans, and what the combination states."""
    first, second = (coils.combine(scan(seed, keep), "scan.h5") for seed in (0, 1))
    return (first.images - second.images) / np.sqrt(2), first


def test_the_noise_is_as_stated_and_equally_strong_everywhere() -> None:
    noise, stated = noise_of()
    assert noise.real.std() == pytest.approx(stated.sigma, rel=0.05)
    assert noise.imag.std() == pytest.approx(stated.sigma, rel=0.05)
    centre = noise[:, HEIGHT // 3 : -HEIGHT // 3, WIDTH // 3 : -WIDTH // 3]
    assert centre.real.std() == pytest.approx(stated.sigma, rel=0.1)
    assert abs(np.mean(noise[..., 1:] * noise[..., :-1].conj())) < 0.02


def test_zero_filled_lines_are_in_the_stated_spectrum() -> None:
    noise, stated = noise_of(slice(18, 78))
    model = FieldNoise(stated.sigma, stated.spectrum)
    assert noise.real.std() == pytest.approx(stated.sigma, rel=0.05)
    columns = np.mean(noise.real[..., 1:] * noise.real[..., :-1]) / noise.real.var()
    rows = np.mean(noise.real[:, 1:] * noise.real[:, :-1]) / noise.real.var()
    assert columns == pytest.approx(model.correlation(0, 1), abs=0.03) and columns > 0.3
    assert rows == pytest.approx(model.correlation(1, 0), abs=0.03)


def test_the_combination_shows_the_object_better_than_the_plain_sum_of_squares() -> None:
    combined = coils.combine(scan(), "scan.h5")
    clean = coils.combine(scan(noise=0.02), "scan.h5")
    truth = np.abs(object_()) > 0
    for images in (combined, clean):
        assert np.abs(images.images)[:, truth].mean() > 5 * np.abs(images.images)[:, ~truth].mean()
    plain = np.sqrt((np.abs(coils.to_images(scan())) ** 2).sum(axis=1))

    def contrast_to_noise(images: np.ndarray) -> float:
        inside = images[:, truth]
        return float(inside.mean() / (images[1:] - images[:-1])[:, truth].std())

    assert contrast_to_noise(combined.images.real**2 + combined.images.imag**2) > 0
    assert contrast_to_noise(np.abs(combined.images)) > 1.1 * contrast_to_noise(plain)


def test_a_single_coil_is_scaled_to_unit_noise_and_nothing_else() -> None:
    kspace = scan()[:, :1]
    combined = coils.combine(kspace, "scan.h5")
    ratio = np.abs(combined.images) / np.abs(coils.to_images(kspace)[:, 0])
    np.testing.assert_allclose(ratio, ratio[0, 0, 0], rtol=1e-6)


def test_what_cannot_be_combined_is_named() -> None:
    aliased = scan()
    aliased[..., 1::2] = 0
    with pytest.raises(DataError, match=r"scan\.h5: 47 of 95 columns of k-space were not measured.*aliased"):
        coils.combine(aliased, "scan.h5")
    with pytest.raises(DataError, match="only 20 of 96 columns"):
        coils.combine(scan(keep=slice(40, 60)), "scan.h5")
    with pytest.raises(DataError, match="zeros only"):
        coils.combine(np.zeros_like(scan()), "scan.h5")
    doubled = scan()
    doubled[:, 1] = doubled[:, 0]
    with pytest.raises(DataError, match="no noise of 4 independent coils"):
        coils.combine(doubled, "scan.h5")
