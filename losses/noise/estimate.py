"""Estimate the noise of a field: its level, spectrum and map, from the best that is known about its images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.errors import DataError
from losses.noise import flat_patches, periodograms
from losses.noise.model import FieldNoise, normalised_spectrum
from losses.noise.periodograms import Patches

Array = NDArray[np.float64]
Images = Sequence[NDArray[np.generic]]

NEGLIGIBLE = 0.05
"""Correlation between neighbours below which noise counts as white: structure that is left over looks like as much."""
FOLDS = 5
"""Groups of images (patches, if there is one image) that are left out in turn to see how uncertain an estimate is."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """The noise of one field, and how well it is known."""

    noise: FieldNoise
    """Level, spectrum and map; per component for complex images, the mean over channels for colour."""
    source: str
    """`repeats`, `clean images`, `background` or `smooth regions`."""
    sigma_error: float
    """Standard error of sigma, in stored units."""
    correlation_error: float
    """Standard error of the correlation between neighbours."""
    signal: str = "independent"
    """How the noise depends on the signal: `independent`, `poisson`, `rician`, `multiplicative` or `unclear`."""
    impulsive: float = 0.0
    """Share of pixels that are impulses (salt and pepper)."""
    channels: Array | None = None
    """Correlation between the noise of the channels, (C, C); of real and imaginary part for complex images."""
    notes: tuple[str, ...] = ()
    """What could not be known, a sentence each."""


def estimate_noise(
    images: Images, *, clean: Images | None = None, second: Images | None = None, background: Images | None = None
) -> Estimate:
    """Estimate the noise of images of one kind, from repeats if there are any, else clean images, air, smooth regions.

    Args:
        images: Noisy images, real (H, W) or (H, W, C), or complex, in stored units; sizes may differ.
        clean: The image of each without noise.
        second: A repeat of each, with noise of the same kind that is independent of the first one's.
        background: Masks (H, W) of what is known to be air.

    Returns:
        The noise and its uncertainty.

    Raises:
        DataError: There are no images, they are too small, or not finite.
    """
    noisy = _planes(images)
    if not noisy:
        raise DataError("noise cannot be estimated without images")
    size = periodograms.patch_size([plane.shape for plane in noisy])
    _check(noisy, size)
    patches, source, share = _signal_free(noisy, size, clean, second, background)
    spectrum = flat_patches.flat_spectrum(patches, share=share)
    noise = _field_noise(spectrum)
    partial = [_field_noise(flat_patches.flat_spectrum(part, share=share)) for part in _folds(patches)]
    scale = (FOLDS - 1) / np.sqrt(FOLDS)
    return Estimate(
        noise,
        source,
        float(scale * np.std([each.sigma for each in partial])),
        float(scale * np.std([each.correlation(0, 1) for each in partial])),
    )


def _signal_free(
    noisy: list[Array], size: int, clean: Images | None, second: Images | None, background: Images | None
) -> tuple[Patches, str, float]:
    """Patches to measure noise in, what they are from, and which share of them is free of structure."""
    if second is not None:
        differences = [(first - other) / np.sqrt(2) for first, other in zip(noisy, _planes(second), strict=True)]
        return periodograms.patches_of(differences, noisy, size), "repeats", 1.0
    if clean is not None:
        truths = _planes(clean)
        residuals = [image - truth for image, truth in zip(noisy, truths, strict=True)]
        return periodograms.patches_of(residuals, truths, size), "clean images", 1.0
    if background is not None:
        per_image = len(noisy) // len(background)
        masks = [np.asarray(mask, bool) for mask in background for _ in range(per_image)]
        patches = periodograms.patches_of(noisy, noisy, size, masks)
        if len(patches) >= flat_patches.FEWEST:
            return patches, "background", 1.0
    return periodograms.patches_of(noisy, noisy, size), "smooth regions", flat_patches.SHARE


def _planes(images: Images) -> list[Array]:
    """Every image as planes (H, W) of float64: one per channel; real and imaginary part where complex."""
    planes: list[Array] = []
    for image in images:
        for channel in np.moveaxis(np.atleast_3d(image), -1, 0):
            parts = (channel.real, channel.imag) if np.iscomplexobj(channel) else (channel,)
            planes += [np.asarray(part, dtype=np.float64) for part in parts]
    return planes


def _check(planes: list[Array], size: int) -> None:
    for plane in planes:
        if min(plane.shape) < size:
            raise DataError(f"noise can be estimated in images of at least {size} pixels a side, got {plane.shape}")
        if not np.isfinite(plane).all():
            raise DataError("noise cannot be estimated in images with values that are not finite")


def _field_noise(power: Array) -> FieldNoise:
    """The noise of this power spectrum, white where neighbours are not correlated."""
    power = periodograms.without_window(power)
    if not power.any():
        return FieldNoise(0.0)
    noise = FieldNoise(float(np.sqrt(power.mean())), normalised_spectrum(power))
    neighbours = [abs(noise.correlation(*lag)) for lag in ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0))]
    return noise if max(neighbours) > NEGLIGIBLE else FieldNoise(noise.sigma)


def _folds(patches: Patches) -> list[Patches]:
    """The patches without a fold of the images each, or of the patches where there are fewer images than folds."""
    images = len(np.unique(patches.image))
    # Neighbouring patches overlap: runs of them are left out together.
    number = patches.image if images >= FOLDS else np.arange(len(patches)) * FOLDS // len(patches)
    return [patches.subset(number % FOLDS != fold) for fold in range(FOLDS)]
