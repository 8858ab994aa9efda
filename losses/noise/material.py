"""What noise is measured in: differences of repeats, residuals, air, or the noisy images themselves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quell.configs.errors import DataError
from quell.losses.noise import flat_patches, periodograms
from quell.losses.noise.model import FieldNoise, normalised_spectrum
from quell.losses.noise.periodograms import Patches

Array = NDArray[np.float64]
Images = Sequence[NDArray[np.generic]]

SMALLEST = 48
"""Smallest side of images in which smooth regions are found."""
TRIAL, LESS = 128, 0.88
"""Side of simulated images; smaller patches are taken where they find less than this share of the variance expected."""


@dataclass(frozen=True, eq=False)
class Material:
    """What noise is measured in."""

    patches: Patches
    """Patches of all channels, with the brightness of the image in each."""
    source: str
    """`repeats`, `clean images`, `background` or `smooth regions`."""
    share: float
    """Share of the patches that is free of structure."""
    channels: list[list[Array]]
    """Channel -> planes of all images, noisy or residuals."""


def best_material(images: Images, clean: Images | None, second: Images | None, background: Images | None) -> Material:
    """Patches of the size that suits: smaller ones where larger ones hold structure, which shows as more noise."""
    shapes = [(image.shape[0], image.shape[1]) for image in images]
    sizes = periodograms.patch_sizes(shapes)
    large = _material(images, clean, second, background, sizes[0])
    if large.share >= 1 or len(sizes) == 1 or not len(large.patches):
        return large
    small = _material(images, clean, second, background, sizes[1])
    spectra = [flat_patches.flat_spectrum(each.patches, share=each.share) for each in (large, small)]
    # Smaller patches miss the longest correlations: how much, noise of the larger ones' spectrum tells.
    noise = FieldNoise(1.0, normalised_spectrum(periodograms.without_window(spectra[0])))
    simulated = [noise.sample(np.random.default_rng(number), (TRIAL, TRIAL)) for number in range(4)]
    trial = periodograms.patches_of(simulated, simulated, sizes[1])
    expected = float(flat_patches.flat_spectrum(trial, share=1.0).mean() * spectra[0].mean())
    return small if spectra[1].mean() < LESS * expected else large


def _material(
    images: Images, clean: Images | None, second: Images | None, background: Images | None, size: int
) -> Material:
    """Patches of this size to measure noise in, and what they are from."""
    noisy = _channels(images)
    _check(noisy, size)
    brightness = _brightness(images)
    if second is not None:
        pairs = zip(noisy, _channels(second), strict=True)
        planes = [[(a - b) / np.sqrt(2) for a, b in zip(*channel, strict=True)] for channel in pairs]
        return Material(_patches(planes, brightness, size), "repeats", 1.0, planes)
    if clean is not None:
        pairs = zip(noisy, _channels(clean), strict=True)
        planes = [[a - b for a, b in zip(*channel, strict=True)] for channel in pairs]
        return Material(_patches(planes, _brightness(clean), size), "clean images", 1.0, planes)
    if background is not None:
        masks = [np.asarray(mask, bool) for mask in background]
        patches = _patches(noisy, brightness, size, masks)
        if len(patches) >= flat_patches.FEWEST:
            return Material(patches, "background", 1.0, noisy)
    if min(min(plane.shape) for plane in noisy[0]) < SMALLEST:
        raise DataError(f"noise can be told from structure in images of at least {SMALLEST} pixels a side only")
    return Material(_patches(noisy, brightness, size), "smooth regions", flat_patches.SHARE, noisy)


def _patches(
    channels: list[list[Array]], brightness: list[Array], size: int, masks: list[NDArray[np.bool_]] | None = None
) -> Patches:
    """Patches of all channels, numbered as planes: channels have noise of different levels."""
    planes = [plane for planes in channels for plane in planes]
    every_mask = None if masks is None else masks * len(channels)
    return periodograms.patches_of(planes, brightness * len(channels), size, every_mask)


def _brightness(images: Images) -> list[Array]:
    """The signal that noise may follow, (H, W): the magnitude of complex images, the mean over channels of colour."""
    real = [np.abs(image) if np.iscomplexobj(image) else np.asarray(image, dtype=np.float64) for image in images]
    return [image if image.ndim == 2 else image.mean(-1) for image in real]


def _channels(images: Images) -> list[list[Array]]:
    """Channel -> planes (H, W) of all images; real and imaginary parts are channels."""
    per_image = []
    for image in images:
        planes = list(np.moveaxis(np.atleast_3d(image), -1, 0))
        parts = [
            part for plane in planes for part in ((plane.real, plane.imag) if np.iscomplexobj(plane) else (plane,))
        ]
        per_image.append([np.asarray(part, dtype=np.float64) for part in parts])
    counts = {len(planes) for planes in per_image}
    if len(counts) != 1:
        raise DataError(f"noise is estimated in images of one kind, got some of {sorted(counts)} channels")
    return [list(planes) for planes in zip(*per_image, strict=True)]


def _check(channels: list[list[Array]], size: int) -> None:
    for plane in (plane for planes in channels for plane in planes):
        if min(plane.shape) < size:
            raise DataError(f"noise can be estimated in images of at least {size} pixels a side, got {plane.shape}")
        if not np.isfinite(plane).all():
            raise DataError("noise cannot be estimated in images with values that are not finite")
