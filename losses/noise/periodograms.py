"""Periodograms of small patches: how strong noise is at every spatial frequency, with what windows do undone."""

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

Array = NDArray[np.float64]

SIZES = (32, 16)
"""Sides of the patches, in pixels: larger ones see longer correlations, smaller ones find a place free of structure."""
LARGE_ENOUGH = 192
"""Smallest side of images in which larger patches are looked for."""
PER_IMAGE, IN_ALL = 800, 8000
"""About this many patches of an image, and of all images, at most: more of them overlap and say little new."""
CONSTANT = 0.2
"""Share of a patch's pixels that may have its lowest value: more of them are masked or clipped."""
CENTRE = {32: 1, 16: 2}
"""Frequencies up to so many steps from 0 are not measured: there, patches hold shading and what is subtracted."""
ORDER = {32: 0, 16: 2}
"""Order of the polynomial that is subtracted from a patch. Small patches see shading as noise."""


@dataclass(frozen=True, eq=False)
class Patches:
    """Periodograms of patches, and where each patch comes from."""

    power: NDArray[np.float32]
    """Power at each frequency, (N, P, P); its mean over frequencies is the variance of the patch."""
    mean: Array
    """Mean of the image in the patch, (N,)."""
    variance: Array
    """Variance of the pixels of what is analysed, (N,)."""
    image: NDArray[np.int64]
    """Number of the image, (N,)."""
    position: Array
    """Centre of the patch, from 0 to 1 along rows and columns, (N, 2)."""

    @property
    def size(self) -> int:
        """Side of a patch, in pixels."""
        return int(self.power.shape[-1])

    def subset(self, chosen: NDArray[np.generic]) -> "Patches":
        """The patches that a mask or a list of numbers chooses."""
        return Patches(
            self.power[chosen],
            self.mean[chosen],
            self.variance[chosen],
            self.image[chosen],
            self.position[chosen],
        )

    def __len__(self) -> int:
        return len(self.mean)


def patch_sizes(shapes: list[tuple[int, int]]) -> tuple[int, ...]:
    """Sides of the patches to try for images of these heights and widths, largest first."""
    return SIZES if min(min(shape) for shape in shapes) >= LARGE_ENOUGH else SIZES[1:]


def window(size: int) -> Array:
    """Hann window (size, size) with mean square 1: it keeps edges at the border of a patch out of other frequencies."""
    profile = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    outer = np.outer(profile, profile)
    return np.asarray(outer / np.sqrt(np.mean(outer**2)))


def window_correlation(size: int) -> Array:
    """Factor by which the window shrinks the correlation at every lag, (size, size), in the order of fftfreq."""
    return np.asarray(np.fft.ifft2(np.abs(np.fft.fft2(window(size))) ** 2).real / size**2)


def patches_of(
    planes: list[Array], signals: list[Array], size: int, masks: list[NDArray[np.bool_]] | None = None
) -> Patches:
    """Periodograms of overlapping patches of all images, without those that are constant in part.

    Args:
        planes: What is analysed: noisy images or residuals, (H, W) each.
        signals: Images of the same shapes, of which `mean` is taken.
        size: Side of a patch; no image is smaller.
        masks: Where given, only patches that lie entirely in the mask of their image.
    """
    per_image = min(PER_IMAGE, max(IN_ALL // max(len(planes), 1), 30))
    parts = []
    for number, (plane, signal) in enumerate(zip(planes, signals, strict=True)):
        corners = _corners(plane.shape, size, per_image, None if masks is None else masks[number])
        if not len(corners):
            continue
        rows, columns = corners[:, 0], corners[:, 1]
        cut = np.lib.stride_tricks.sliding_window_view(plane, (size, size))[rows, columns]
        kept = (cut == cut.min((1, 2), keepdims=True)).mean((1, 2)) <= CONSTANT
        cut, corners, rows, columns = cut[kept], corners[kept], rows[kept], columns[kept]
        if not len(cut):
            continue
        means = np.lib.stride_tricks.sliding_window_view(signal, (size, size))[rows, columns].mean((1, 2))
        position = (corners + size / 2) / np.array(plane.shape)
        parts.append(Patches(periodograms(cut), means, cut.var((1, 2)), np.full(len(corners), number), position))
    if not parts:
        nothing = np.zeros(0)
        return Patches(np.zeros((0, size, size), np.float32), nothing, nothing, nothing.astype(int), np.zeros((0, 2)))
    return Patches(
        np.concatenate([part.power for part in parts]),
        np.concatenate([part.mean for part in parts]),
        np.concatenate([part.variance for part in parts]),
        np.concatenate([part.image for part in parts]),
        np.concatenate([part.position for part in parts]),
    )


def periodograms(patches: Array) -> NDArray[np.float32]:
    """Windowed periodograms (N, P, P) of patches (N, P, P), each without its mean, or its shading."""
    size = patches.shape[-1]
    weights = window(size)
    flat = (patches * weights).reshape(len(patches), -1)
    shading = _polynomials(size, ORDER[size]) * weights.reshape(-1, 1)
    basis, _ = np.linalg.qr(shading)
    flat = flat - (flat @ basis) @ basis.T
    spectra = scipy.fft.fft2(flat.reshape(patches.shape).astype(np.float32))
    power: NDArray[np.float32] = (spectra.real**2 + spectra.imag**2) / np.float32(size**2)
    return power


def measured(size: int) -> NDArray[np.bool_]:
    """Which frequencies (size, size) are measured: all but those next to 0."""
    steps = np.abs(np.fft.fftfreq(size) * size)
    return np.asarray(np.maximum.outer(steps, steps) > CENTRE[size])


def fill_centre(power: Array) -> Array:
    """Replace the frequencies that are not measured by what those around them say.

    A Gaussian in frequency, log S = a + b u^2 + c v^2 + d u v, is fitted to the two rings of bins around them.
    """
    size = power.shape[0]
    steps = np.fft.fftfreq(size) * size
    u, v = np.meshgrid(steps, steps, indexing="ij")
    missing = ~measured(size)
    near = (np.maximum(np.abs(u), np.abs(v)) <= CENTRE[size] + 2) & ~missing
    terms = np.stack([np.ones_like(u), u**2, v**2, u * v], -1)
    values = np.log(np.maximum(power, 1e-12 * power.max() + 1e-300))
    fitted, *_ = np.linalg.lstsq(terms[near], values[near], rcond=None)
    filled = power.copy()
    # A fit to noisy bins must not invent a peak: no more than twice the largest neighbour.
    filled[missing] = np.minimum(np.exp(terms[missing] @ fitted), 2 * power[near].max())
    return filled


def without_window(power: Array) -> Array:
    """Power spectrum (P, P) without the window's blur: its correlations, divided by those of the window.

    Lags beyond 3/8 of the patch, of which the window leaves little, are taken as 0.
    """
    size = power.shape[0]
    lags = np.abs(np.fft.fftfreq(size) * size)
    kept = np.maximum.outer(lags, lags) <= 3 * size / 8
    correlation = np.where(kept, np.fft.ifft2(power).real / window_correlation(size), 0)
    return nearest_spectrum(np.fft.fft2(correlation).real)


def nearest_spectrum(power: Array) -> Array:
    """The nearest power without negative values and of the same mean: cutting alone would add white noise."""
    low, high = 0.0, float(power.max())
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if (power - middle).clip(0).mean() > power.mean() else (low, middle)
    return np.asarray((power - high).clip(0))


def _corners(shape: tuple[int, ...], size: int, count: int, mask: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """Upper left corners (N, 2) of patches on a regular grid that covers the image."""
    stride = max(size // 6, int(np.ceil(np.sqrt(shape[0] * shape[1] / count))))
    rows, columns = (np.arange(0, length - size + 1, stride) for length in shape[:2])
    corners = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    if mask is None:
        return np.asarray(corners)
    inside = np.lib.stride_tricks.sliding_window_view(mask, (size, size))[corners[:, 0], corners[:, 1]]
    return np.asarray(corners[inside.all((1, 2))])


def _polynomials(size: int, order: int) -> Array:
    """Polynomials in two variables up to this order, (P * P, terms)."""
    line = np.linspace(-1, 1, size)
    powers = [(row, column) for row in range(order + 1) for column in range(order + 1 - row)]
    return np.stack([np.multiply.outer(line**row, line**column).ravel() for row, column in powers], -1)
