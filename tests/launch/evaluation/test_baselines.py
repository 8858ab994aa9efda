"""Classical baselines: how well they denoise, in any units, and which errors they raise."""

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from quell.configs.baseline_names import BASELINES, Baseline
from quell.configs.errors import ConfigError, DataError, MachineError
from quell.launch.evaluation.baseline_tuning import STRENGTHS, TrainingImage, risk, tune
from quell.launch.evaluation.baselines import BLURS_PX, best_blur_px, restore
from quell.losses.metrics.psnr import psnr
from quell.losses.noise.model import FieldNoise, spectrum_of_kernel

SIGMA = 0.1
DENOISERS: list[Baseline] = ["gaussian", "nlm", "bm3d"]


def scene(shape: tuple[int, ...] = (48, 56), sigma: float = SIGMA) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(noisy, clean): discs of different brightness on a slope, in about [0, 1]."""
    rng = np.random.default_rng(11)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    clean = 0.2 + 0.3 * columns / shape[1]
    for row, column, radius, value in ((14, 16, 9, 0.9), (30, 38, 12, 0.05), (40, 10, 6, 0.7)):
        clean[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = value
    if len(shape) == 3:
        clean = clean[..., None] * np.linspace(1, 0.6, shape[2])
    return clean + sigma * rng.standard_normal(clean.shape), clean


@pytest.mark.parametrize("baseline", DENOISERS)
@pytest.mark.parametrize("shape", [(48, 56), (48, 56, 2), (48, 56, 3)])
def test_noise_is_reduced_with_known_and_with_estimated_sigma(baseline: Baseline, shape: tuple[int, ...]) -> None:
    noisy, clean = scene(shape)
    before = psnr(noisy, clean, data_range=1)
    for sigma in (SIGMA, None):
        restored = restore(noisy, baseline, data_range=1, sigma=sigma)
        assert restored.shape == clean.shape
        assert psnr(restored, clean, data_range=1) > before + (3 if baseline == "gaussian" else 6)


@pytest.mark.parametrize("baseline", DENOISERS)
def test_results_do_not_depend_on_the_units(baseline: Baseline) -> None:
    noisy, _ = scene()
    in_unit_range = restore(noisy, baseline, data_range=1)
    in_other_units = restore(noisy * 256, baseline, data_range=256)
    np.testing.assert_allclose(in_other_units / 256, in_unit_range, atol=1e-6)


@pytest.mark.parametrize("baseline", BASELINES)
def test_complex_images_become_magnitudes(baseline: Baseline) -> None:
    _, clean = scene()
    rng = np.random.default_rng(0)
    noise = 0.05 * (rng.standard_normal(clean.shape) + 1j * rng.standard_normal(clean.shape))
    noisy = (clean * np.exp(0.4j) + noise).astype(np.complex64)
    restored = restore(noisy, baseline, data_range=1)
    assert restored.dtype == np.float64
    if baseline == "noisy":
        np.testing.assert_allclose(restored, np.abs(noisy))
    else:
        assert psnr(restored, clean, data_range=1) > psnr(np.abs(noisy), clean, data_range=1) + 1


def test_the_blur_chosen_without_the_clean_image_is_nearly_optimal() -> None:
    for sigma in (0.02, 0.1, 0.3):
        noisy, clean = scene(sigma=sigma)
        scores = {b: psnr(gaussian_filter(noisy, b), clean, data_range=1) for b in BLURS_PX}
        chosen = best_blur_px(noisy, sigma)
        assert psnr(restore(noisy, "gaussian", data_range=1, blur_px=chosen), clean, data_range=1) > (
            max(scores.values()) - 0.1
        )
    assert best_blur_px(clean, 1e-6) == 0


def test_a_given_blur_is_applied() -> None:
    noisy, _ = scene((48, 56, 3))
    restored = restore(noisy, "gaussian", data_range=1, blur_px=1.5)
    np.testing.assert_allclose(restored[..., 1], gaussian_filter(noisy[..., 1], 1.5))
    np.testing.assert_array_equal(restore(noisy, "gaussian", data_range=1, blur_px=0), noisy)


@pytest.mark.parametrize("baseline", ["nlm", "bm3d"])
def test_strength_multiplies_sigma_and_the_published_preset_is_fixed(baseline: Baseline) -> None:
    noisy, _ = scene((24, 32))
    doubled = restore(noisy, baseline, data_range=1, sigma=SIGMA, strength=2)
    np.testing.assert_array_equal(doubled, restore(noisy, baseline, data_range=1, sigma=2 * SIGMA))
    published = restore(noisy, baseline, data_range=1, sigma=SIGMA, preset="published")
    same = restore(noisy, baseline, data_range=1, sigma=9, strength=3, preset="published")
    np.testing.assert_array_equal(published, same)
    assert not np.allclose(published, restore(noisy, baseline, data_range=1, sigma=SIGMA))


def test_an_image_without_noise_is_returned_unchanged() -> None:
    flat = np.full((32, 32), 0.5)
    for baseline in DENOISERS:
        np.testing.assert_allclose(restore(flat, baseline, data_range=1), flat)
        np.testing.assert_array_equal(restore(scene()[0], baseline, data_range=1, sigma=0), scene()[0])


def test_tuning_finds_the_best_candidate() -> None:
    noisy, clean = scene()
    scores = {b: psnr(restore(noisy, "gaussian", data_range=1, blur_px=b), clean, data_range=1) for b in BLURS_PX}
    assert tune([TrainingImage(noisy, clean)], "gaussian", data_range=1) == {
        "blur_px": max(scores, key=lambda b: scores[b])
    }
    with_correlated_noise = gaussian_filter(noisy - clean, 0.6) + clean
    strength = tune([TrainingImage(with_correlated_noise, clean)], "nlm", data_range=1)["strength"]
    assert strength in STRENGTHS and strength > 1, "sigma is underestimated when the noise is correlated"
    assert tune([], "noisy", data_range=1) == {}
    with pytest.raises(DataError, match="tune"):
        tune([], "nlm", data_range=1)


def test_tuning_does_not_end_before_the_best_strength_where_the_measured_level_is_far_too_low() -> None:
    clean = scene()[1][:64, :64]
    noise = gaussian_filter(np.random.default_rng(5).standard_normal(clean.shape), 2, mode="wrap")
    noisy = clean + 0.1 * noise / noise.std()
    strength = tune([TrainingImage(noisy, clean)], "nlm", data_range=1)["strength"]
    assert 10 < strength < STRENGTHS[-1]
    reached, before = (
        psnr(restore(noisy, "nlm", data_range=1, strength=value), clean, data_range=1) for value in (strength, 10.0)
    )
    assert reached > before + 0.3


def test_wrong_arguments_and_a_missing_package_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy, _ = scene()
    with pytest.raises(ConfigError, match="median"):
        restore(noisy, "median", data_range=1)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="shape|height"):
        restore(noisy[None, None], "nlm", data_range=1)
    monkeypatch.setitem(sys.modules, "bm3d", None)
    with pytest.raises(MachineError, match="pip install bm3d"):
        restore(noisy, "bm3d", data_range=1)


def test_nlm_reaches_its_measured_psnr_on_a_real_knee(real_data: Path) -> None:
    """Slices 15 to 17, first and last echo, scaled by their 99.5th percentile, sigma 0.1: measured 30.0 dB."""
    volume = np.load(real_data / "knee_mese" / "knee_mese_18x8x256x256.npz")["vol"].astype(np.float64)
    rng = np.random.default_rng(0)
    scores = []
    for echo in (0, 7):
        for index in (15, 16, 17):
            clean = volume[index, echo] / np.percentile(volume[index, echo], 99.5)
            noisy = clean + 0.1 * rng.standard_normal(clean.shape)
            scores.append(psnr(restore(noisy, "nlm", data_range=1), clean, data_range=1))
    assert np.mean(scores) > 29.8


BLUR = np.outer([1.0, 4.0, 6.0, 4.0, 1.0], [1.0, 4.0, 6.0, 4.0, 1.0])


def correlated_scene(noise: FieldNoise) -> tuple[np.ndarray, np.ndarray]:
    clean = scene((72, 80))[1]
    return clean + noise.sample(np.random.default_rng(7), clean.shape), clean


@pytest.mark.parametrize("baseline", ["gaussian", "nlm", "bm3d"])
def test_a_baseline_that_is_told_the_spectrum_no_longer_does_nothing(baseline: Baseline) -> None:
    noise = FieldNoise(SIGMA, spectrum_of_kernel(BLUR))
    noisy, clean = correlated_scene(noise)
    alone, told = (restore(noisy, baseline, data_range=1, noise=known) for known in (None, noise))
    gains = [psnr(image, clean, data_range=1) - psnr(noisy, clean, data_range=1) for image in (alone, told)]
    assert gains[0] < 0.5 < 0.8 < gains[1]


@pytest.mark.parametrize("baseline", ["nlm", "bm3d"])
def test_a_baseline_that_is_told_the_map_beats_one_that_assumes_one_level(baseline: Baseline) -> None:
    noise = FieldNoise(SIGMA, None, np.linspace(0.2, 1.8, 16)[None].repeat(16, 0))
    noisy, clean = correlated_scene(noise)
    even = restore(noisy, baseline, data_range=1, sigma=SIGMA)
    told = restore(noisy, baseline, data_range=1, noise=noise)
    assert psnr(told, clean, data_range=1) > psnr(even, clean, data_range=1) + 0.3


def test_the_risk_without_clean_images_is_the_squared_error_whatever_the_noise() -> None:
    noise = FieldNoise(SIGMA, spectrum_of_kernel(BLUR), np.linspace(0.5, 1.5, 16)[None].repeat(16, 0))
    errors, risks = [], []
    for seed in range(6):
        clean = scene()[1]
        noisy = clean + noise.sample(np.random.default_rng(seed), clean.shape)
        restored = restore(noisy, "gaussian", data_range=1, blur_px=1.2)
        errors.append(np.mean((restored - clean) ** 2))
        risks.append(risk(noisy, lambda image: restore(image, "gaussian", data_range=1, blur_px=1.2), noise))
    assert np.mean(risks) == pytest.approx(np.mean(errors), rel=0.15)


def test_nlm_is_tuned_without_clean_images() -> None:
    noise = FieldNoise(SIGMA, spectrum_of_kernel(BLUR))
    noisy, clean = correlated_scene(noise)
    options = tune([TrainingImage(noisy, noise=noise)], "nlm", data_range=1)
    tuned, best = (
        psnr(restore(noisy, "nlm", data_range=1, noise=noise, **chosen), clean, data_range=1)
        for chosen in (options, tune([TrainingImage(noisy, clean, noise)], "nlm", data_range=1))
    )
    assert tuned > best - 0.5


def test_parts_of_a_complex_image_are_restored_apart_where_their_noise_is_known() -> None:
    noise = FieldNoise(SIGMA, spectrum_of_kernel(BLUR))
    noisy, clean = correlated_scene(noise)
    imaginary = noise.sample(np.random.default_rng(8), clean.shape)
    apart = restore(noisy + 1j * imaginary, "bm3d", data_range=1, noise=noise)
    together = restore(np.abs(noisy + 1j * imaginary), "bm3d", data_range=1, noise=noise)
    assert psnr(apart, clean, data_range=1) > psnr(together, clean, data_range=1) + 0.5
