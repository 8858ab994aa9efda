"""The audit on the phantom with made-up noises, from noisy images alone: level, correlation, map, signal, refusal."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from quell.losses.noise.audit import FieldImages, audit_noise
from quell.losses.noise.estimate import Estimate, estimate_noise
from quell.losses.noise.impulses import TOLERATED
from quell.losses.noise.verdicts import verdict
from quell.shards.sources.common.made_up_noise import DEFAULTS, MadeUpNoise
from quell.shards.sources.phantom import clean_pair

SIZE, IMAGES = 128, 12
LEFTOVER = 0.12
"""Correlation that structure adds here: the phantom has hardly a patch of 16 pixels without an edge or a shade."""


@cache
def knees() -> list[NDArray[np.complex128]]:
    return [clean_pair(np.random.default_rng(number), SIZE)[0] for number in range(IMAGES)]


def noisy(kind: str, sigma: float = 0.1, *, magnitude: bool = False, **parameters: float) -> tuple[list, MadeUpNoise]:
    """Noisy knees, and their noise."""
    noise = MadeUpNoise(kind, sigma, **{**DEFAULTS, **parameters})
    random = np.random.default_rng(1)
    clean = [noise.clean(knee if noise.is_complex else np.abs(knee)) for knee in knees()]
    images = [noise.add(image, random, random) for image in clean]
    return [np.abs(image) for image in images] if magnitude else images, noise


CASES: dict[str, tuple[str, dict[str, float]]] = {
    "white": ("gaussian", {}),
    "blurred by half a pixel": ("blurred", {"blur": 0.5}),
    "blurred by a pixel": ("blurred", {}),
    "streaks": ("streaks", {}),
    "Hann filter in k-space": ("kspace", {}),
    "zero-filled": ("zero_filled", {}),
    "partial Fourier": ("partial", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_level_and_spectrum_from_noisy_images_alone(case: str) -> None:
    kind, parameters = CASES[case]
    images, noise = noisy(kind, blur=parameters.get("blur", 1.0))
    truth, found = noise.truth((SIZE, SIZE)), estimate_noise(images).noise
    assert truth is not None and found.sigma == pytest.approx(truth.sigma, rel=0.1)
    assert found.is_white == truth.is_white
    for lag in ((0, 1), (1, 0)):
        assert found.correlation(*lag) == pytest.approx(truth.correlation(*lag), abs=LEFTOVER)


def test_a_map_is_found_and_its_level() -> None:
    images, noise = noisy("varying", 0.05)
    truth, found = noise.truth((SIZE, SIZE)), estimate_noise(images).noise
    assert truth is not None and found.level_map is not None and found.sigma == pytest.approx(truth.sigma, rel=0.1)
    ratio = found.map_at(SIZE, SIZE) / truth.map_at(SIZE, SIZE)
    assert np.quantile(ratio, 0.1) > 0.8 and np.quantile(ratio, 0.9) < 1.25


def test_rician_noise_is_known_by_its_air() -> None:
    images, _ = noisy("kspace", magnitude=True)
    found = estimate_noise(images)
    assert found.signal == "rician" and found.noise.sigma == pytest.approx(0.1, rel=0.1)
    assert found.noise.correlation(0, 1) == pytest.approx(0.82, abs=0.1)


@pytest.mark.parametrize("kind", ["poisson", "multiplicative"])
def test_noise_that_follows_the_signal_is_recognised(kind: str) -> None:
    images, _ = noisy(kind, 0.05 if kind == "poisson" else 0.2)
    found = estimate_noise(images)
    assert found.signal == kind
    if kind == "poisson":
        assert found.noise.sigma == pytest.approx(0.05, rel=0.15) and found.noise.gain == pytest.approx(0.05, rel=0.2)


def test_noise_that_contrasts_share_is_measured() -> None:
    noise = MadeUpNoise("correlated", 0.1, **{**DEFAULTS, "shared": 0.6})
    fields: dict[str, list] = {"pd": [], "pdfs": []}
    for number in range(IMAGES):
        for stream, (field, clean) in enumerate(
            zip(fields, clean_pair(np.random.default_rng(number), SIZE), strict=True)
        ):
            common = np.random.default_rng(100 + number)
            fields[field].append(noise.add(np.abs(clean), np.random.default_rng((number, stream)), common))
    audit = audit_noise({field: FieldImages(images) for field, images in fields.items()})
    assert audit.between["pd", "pdfs"] == pytest.approx(0.6, abs=0.1)
    assert verdict("cross_guided", audit.model).status == "do not use"


def test_fields_that_are_masked_differently_are_compared_where_both_are_not() -> None:
    images, _ = noisy("gaussian")
    masked = [np.where(np.arange(SIZE) < SIZE // 2, image, 0) for image in images]
    audit = audit_noise({"whole": FieldImages(images), "half": FieldImages(masked)})
    assert audit.between["whole", "half"] == pytest.approx(1, abs=0.05)


def test_impulses_are_refused() -> None:
    images, _ = noisy("salt")
    audit = audit_noise({"noisy": FieldImages(images)})
    assert audit.estimates["noisy"].impulsive > TOLERATED
    assert {verdict(method, audit.model).status for method in ("r2r", "sure", "bm3d", "noise2void")} == {"do not use"}
    assert verdict("supervised", audit.model).status == "fits"


def test_clean_images_that_differ_by_more_than_noise_are_not_used() -> None:
    images, _ = noisy("gaussian", 0.02)
    restored = [1 - np.abs(knee) for knee in knees()]
    estimate: Estimate = audit_noise({"noisy": FieldImages(images, clean=restored)}).estimates["noisy"]
    assert estimate.source == "smooth regions" and "by more than noise" in estimate.notes[0]
