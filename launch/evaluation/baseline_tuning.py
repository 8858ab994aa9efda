"""Choosing the parameters of classical baselines: by PSNR on clean training images, or by an unbiased risk without."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quell.configs.baseline_names import Baseline
from quell.configs.errors import DataError
from quell.launch.evaluation.baselines import BLURS_PX, BaselineOptions, restore
from quell.losses.metrics.common.images import Image
from quell.losses.metrics.psnr import psnr
from quell.losses.noise.model import FieldNoise

STRENGTHS = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, *(5.5 * 1.4**power for power in range(16)))
"""The strengths that are tried, up to two beyond the best. They reach far (856): of strongly correlated noise a
baseline measures hardly any level by itself."""

NOTICEABLE_DB = 0.01
"""Difference from which a value counts as worse: far below the noise a baseline does nothing, whatever its strength."""

PROBE = 0.1
"""Standard deviation of a risk estimate's probe, as a share of the noise's: small, but large against rounding."""


class TrainingImage(NamedTuple):
    """An image to tune on."""

    noisy: NDArray[np.generic]
    clean: NDArray[np.generic] | None = None
    noise: FieldNoise | None = None
    """What the baseline is told of its noise."""


def tune(images: Iterable[TrainingImage], baseline: Baseline, *, data_range: float) -> BaselineOptions:
    """Choose a baseline's blur or strength by the mean PSNR over images with a clean one, or by `risk` without.

    The values are tried in ascending order until two in a row are worse than the best, so that slow methods are not run
    far beyond their optimum.

    Args:
        images: Of the training split; tuning on test images would flatter the baseline.
        baseline: Its name.
        data_range: Range of the values, in the units of the images.

    Returns:
        Arguments for `restore`; empty for "noisy", which has none.

    Raises:
        DataError: There is no image with a clean one or with a known noise.
    """
    if baseline == "noisy":
        return {}
    usable = [image for image in images if image.clean is not None or image.noise is not None]
    if not usable:
        raise DataError(f"no training pair with a clean image to tune the baseline '{baseline}' on")
    candidates: list[BaselineOptions] = (
        [{"blur_px": blur_px} for blur_px in BLURS_PX]
        if baseline == "gaussian"
        else [{"strength": strength} for strength in STRENGTHS]
    )
    best, best_score, worse_in_a_row = candidates[0], -math.inf, 0
    for options in candidates:
        score = float(np.mean([_score(image, baseline, data_range, options) for image in usable]))
        if score > best_score:
            best, best_score, worse_in_a_row = options, score, 0
        elif score < best_score - NOTICEABLE_DB:
            worse_in_a_row += 1
        if worse_in_a_row == 2:
            break
    return best


def risk(noisy: Image, denoise: Callable[[Image], Image], noise: FieldNoise) -> float:
    """Unbiased estimate of a denoiser's mean squared error from a noisy image alone, for Gaussian noise.

    mean((f(y) - y)**2) - mean(sigma**2) + 2 mean(b (f(y + e b) - f(y))) / e, with b drawn as the noise is, e small:
    Stein's estimate (Annals of Statistics, 1981) for any covariance, with the divergence measured as by Ramani, Blu and
    Unser, IEEE TIP 2008. By chance it can be negative.
    """
    shape = noisy.shape[:2]
    random = np.random.default_rng(0)
    probe = noise.sample(random, shape)
    variance = np.mean(noise.map_at(*shape) ** 2)
    if noisy.ndim == 3:
        probe = np.stack([noise.sample(random, shape) for _ in range(noisy.shape[2])], axis=-1)
    restored = denoise(noisy)
    divergence = np.mean(probe * (denoise(noisy + PROBE * probe) - restored)) / PROBE
    return float(np.mean((restored - noisy) ** 2) - variance + 2 * divergence)


def _score(image: TrainingImage, baseline: Baseline, data_range: float, options: BaselineOptions) -> float:
    """How good a restoration is: its PSNR, or minus its risk in decibels."""

    def denoise(noisy: NDArray[np.generic]) -> Image:
        return restore(noisy, baseline, data_range=data_range, noise=image.noise, **options)

    if image.clean is not None:
        return psnr(denoise(image.noisy), np.abs(image.clean), data_range=data_range)
    assert image.noise is not None
    magnitude = np.abs(image.noisy) if np.iscomplexobj(image.noisy) else np.asarray(image.noisy, dtype=np.float64)
    error = risk(np.asarray(magnitude, dtype=np.float64), denoise, image.noise)
    # an error of less than a millionth of the noise's is chance
    return float(-10 * np.log10(max(error, 1e-6 * image.noise.sigma**2) / data_range**2))
