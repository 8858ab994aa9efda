"""Correlation between the noise of two images of one sample: of channels, of contrasts, of real and imaginary part."""

from functools import reduce

import numpy as np
from numpy.typing import NDArray

from quell.losses.noise import flat_patches, periodograms
from quell.losses.noise.periodograms import Patches

Array = NDArray[np.float64]

ENOUGH = 6
"""Images that are compared."""


def noise_correlation(first: list[Array], second: list[Array], size: int, *, share: float) -> float:
    """Correlation between the noise of images and that of the second ones, pixel by pixel, in -1 .. 1.

    Args:
        first: Planes (H, W), noisy or residuals.
        second: Planes of the same shapes.
        size: Side of the patches that are compared.
        share: Share of the patches that is free of structure; 1 for residuals.
    """
    first, second = first[:ENOUGH], second[:ENOUGH]
    patches = _common([periodograms.patches_of(planes, planes, size) for planes in (first, second)])
    if not len(patches[0]):
        return 0.0
    spectra = [flat_patches.flat_spectrum(each, share=share) for each in patches]
    levels = [max(float(np.sqrt(spectrum.mean())), 1e-300) for spectrum in spectra]
    scaled = [(a / levels[0], b / levels[1]) for a, b in zip(first, second, strict=True)]
    added, subtracted = [a + b for a, b in scaled], [a - b for a, b in scaled]
    *patches, sums, differences = _common(
        [*patches, *(periodograms.patches_of(planes, first, size) for planes in (added, subtracted))]
    )
    # Relative to the noise's spectrum, high frequencies, which hold little structure, count as much as low ones.
    common = np.sqrt(spectra[0] * spectra[1]) / (levels[0] * levels[1])
    total = difference = 0.0
    halves = flat_patches.halves(size)
    for half, other in ((0, 1), (1, 0)):
        score = np.sum(
            [
                flat_patches.structure(each.power, spectrum, halves[half])
                for each, spectrum in zip(patches, spectra, strict=True)
            ],
            axis=0,
        )
        count = max(min(flat_patches.FEWEST, len(score)), round(share * len(score)))
        chosen = np.argsort(score)[:count]
        # var(a + b) - var(a - b) = 4 cov(a, b), over the frequencies that did not choose.
        total += float(flat_patches.structure(sums.power[chosen], common, halves[other]).sum())
        difference += float(flat_patches.structure(differences.power[chosen], common, halves[other]).sum())
    return (total - difference) / max(total + difference, 1e-300)


def _common(sets: list[Patches]) -> list[Patches]:
    """Of every set, the patches at places that all of them have: those with constant parts are left out of each."""
    keys = [
        each.image * 10**12 + np.round(each.position * 10**5).astype(np.int64) @ np.array([10**6, 1]) for each in sets
    ]
    places = reduce(np.intersect1d, keys)
    return [each.subset(np.isin(key, places)) for each, key in zip(sets, keys, strict=True)]
