"""How strong noise is in every patch: its level by image, position in the image, and brightness.

Noise of any strength has the same spectrum; structure does not. Patches whose spectrum has the shape of the noise's are
candidates, and of these the weakest of every part of an image and of every brightness are measured, each chosen by one
half of the frequencies and measured in the other (`flat_patches`).
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from quell.losses.noise import flat_patches, periodograms
from quell.losses.noise.periodograms import Patches

Array = NDArray[np.float64]

CELLS = 3
"""The image is divided into so many rows and columns of parts."""
BRIGHTNESSES = 6
"""The patches of an image are divided into so many groups by their mean."""
SHARE = 0.15
"""Share of the candidates of each group that is measured."""
BANDS = (0.0, 0.12, 0.2, 0.28, 0.36, 0.44, 0.8)
"""Borders of the frequency bands, in cycles per pixel, whose powers are compared with the noise's."""
VARIANCE = 7.6
"""Variance of a mean over n frequencies, times n: 2 for S(f) = S(-f), times the bins that a Hann window joins."""
TRUSTED = 0.5
"""Candidates deviate from the noise's spectrum by at most this multiple of what chance explains to 9 in 10."""
LEAST = 0.05
"""At least this share of all patches are candidates."""


@dataclass(frozen=True, eq=False)
class LevelSamples:
    """Measurements of the noise's variance relative to the spectrum, and where they were taken."""

    variance: Array
    """Relative variance, (M,)."""
    patch: NDArray[np.int64]
    """Number of the patch of each, (M,)."""


def measure(patches: Patches, spectrum: Array, *, share: float = SHARE) -> LevelSamples:
    """Measure the noise in the flattest patches of every group.

    Args:
        patches: Patches of noisy images, or of residuals.
        spectrum: Power spectrum of the noise, of any scale.
        share: Share of each group's candidates that is measured; 1 where there is no structure.
    """
    usable = spectrum > flat_patches.FLOOR * spectrum.max()
    halves = [half & usable for half in flat_patches.halves(patches.size)]
    scores = [flat_patches.structure(patches.power, spectrum, half) for half in halves]
    if share >= 1:
        everything = np.arange(len(patches))
        return LevelSamples((scores[0] + scores[1]) / 2, everything)
    deviation = shape_deviation(patches, spectrum)
    # Images without any patch of the noise's shape have structure everywhere; their least structured ones must do.
    candidates = deviation <= max(_threshold(), float(np.quantile(deviation, LEAST)))
    variances, numbers = [], []
    for half, other in ((0, 1), (1, 0)):
        weakest = [_weakest(group, scores[half], share) for group in _groups(patches, candidates)]
        chosen = np.unique(np.concatenate(weakest))
        variances.append(flat_patches.CALIBRATION[patches.size] * scores[other][chosen])
        numbers.append(chosen)
    return LevelSamples(np.concatenate(variances), np.concatenate(numbers))


def shape_deviation(patches: Patches, spectrum: Array) -> Array:
    """How much the power of each patch departs from the shape of the spectrum, (N,); chi-squared for noise alone."""
    size = patches.size
    frequencies = np.fft.fftfreq(size)
    radius = np.hypot.outer(frequencies, frequencies)
    along_rows = np.abs(frequencies)[:, None] > np.abs(frequencies)
    usable = periodograms.measured(size) & (spectrum > flat_patches.FLOOR * spectrum.max())
    powers, counts = [], []
    for low, high in pairwise(BANDS):
        for orientation in (along_rows, ~along_rows):
            band = usable & (radius > low) & (radius <= high) & orientation
            if band.sum() >= 16:
                powers.append(flat_patches.structure(patches.power, spectrum, band))
                counts.append(band.sum())
    if not powers:  # noise of so few frequencies has no shape to compare
        return np.zeros(len(patches))
    relative = np.array(powers) / np.maximum(np.average(powers, axis=0, weights=counts), 1e-300)
    return np.asarray((np.array(counts)[:, None] / VARIANCE * (relative - 1) ** 2).sum(0))


def _threshold() -> float:
    bands = 2 * (len(BANDS) - 1) - 1
    return TRUSTED * (bands + 1.28 * np.sqrt(2 * bands))


def _groups(patches: Patches, candidates: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Numbers of the candidates in every part of every image, and of every brightness."""
    cell = np.minimum((patches.position * CELLS).astype(int), CELLS - 1) @ (CELLS, 1)
    groups = []
    for image in np.unique(patches.image):
        of_image = np.flatnonzero(candidates & (patches.image == image))
        groups += [of_image[cell[of_image] == number] for number in range(CELLS**2)]
        groups += np.array_split(of_image[np.argsort(patches.mean[of_image])], BRIGHTNESSES)
    return [group for group in groups if len(group)]


def _weakest(group: NDArray[np.int64], scores: Array, share: float) -> NDArray[np.int64]:
    count = max(1, round(share * len(group)))
    return group[np.argsort(scores[group])[:count]]
