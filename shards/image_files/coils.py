"""One complex image, of known noise, from the k-space of several coils.

The coils' noise is correlated, and differs in strength. It is measured outside the object, and the coils are mixed so
that it becomes white with unit variance in each (prewhitening: Pruessmann et al., Magn. Reson. Med. 46:638, 2001). They
are then added with the conjugate of their sensitivities, the combination of least noise (Roemer et al., Magn. Reson.
Med. 16:192, 1990). Sensitivities come from the centre of the same k-space, divided by their root sum of squares
(self-calibration: McKenzie et al., Magn. Reson. Med. 47:529, 2002), so that the noise of the result is equally strong
everywhere, and its magnitude is close to the root-sum-of-squares image.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from quell.configs.errors import DataError

ComplexArray = NDArray[np.complexfloating]

CALIBRATION_LINES = 24
"""Lines along each axis in the centre of k-space that sensitivities are computed from."""

CORNER = 8
"""The noise is measured in the four corners of the uncropped images, each an eighth of the height and width."""

PLAUSIBLE = 0.999
"""Pixels of the corners whose energy noise stays below with this probability count as air."""

DEPENDENT = 1e-9
"""Power of the weakest combination of coils, over that of the strongest, at which coils are copies of each other."""

LEAST_SHARE = 0.5
"""Share of the lines of k-space that must be measured; published scans zero-fill up to a quarter."""


@dataclass(frozen=True)
class CombinedCoils:
    """Combined images with their noise."""

    images: ComplexArray
    """(slices, H, W), uncropped, in units in which the noise of each component has the deviation `sigma`."""
    sigma: float
    """Standard deviation of the real and of the imaginary part of the noise."""
    measured: NDArray[np.bool_]
    """Which samples of k-space were measured (H, W), in the order of fftfreq; the others are zero."""

    @property
    def spectrum(self) -> NDArray[np.float64]:
        """Power spectrum of the real part's noise, (H, W) in the order of fftfreq, mean 1."""
        power = self.measured.astype(np.float64)
        power = (power + np.roll(power[::-1, ::-1], (1, 1), (0, 1))) / 2  # the real part sees S(f) and S(-f)
        return np.asarray(power / power.mean())


def combine(kspace_SCHW: ComplexArray, where: str) -> CombinedCoils:
    """Combine the coils of every slice.

    Args:
        kspace_SCHW: Centred k-space (slices, coils, H, W); lines that were not measured are zero.
        where: The file, for messages.

    Returns:
        The images, before any crop, with their noise.

    Raises:
        DataError: Lines are missing within k-space, so that images would be aliased, or the corners hold no noise.
    """
    measured = measured_samples(kspace_SCHW, where)
    coil_images = to_images(kspace_SCHW)
    whitening = _whitening(coil_images, where)
    whitened = np.einsum("dc,schw->sdhw", whitening, coil_images)
    maps = _sensitivities(np.einsum("dc,schw->sdhw", whitening, _centre_of(kspace_SCHW)))
    combined = (maps.conj() * whitened).sum(axis=1)
    return CombinedCoils(combined, float(np.sqrt(0.5)), np.fft.ifftshift(measured))


def to_images(kspace: ComplexArray) -> ComplexArray:
    """Centred orthonormal inverse FFT over the last two axes."""
    axes = (-2, -1)
    return np.asarray(np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, axes=axes), norm="ortho"), axes=axes))


def measured_samples(kspace: ComplexArray, where: str) -> NDArray[np.bool_]:
    """Which samples of centred k-space are not zero in every slice and coil, (H, W).

    Raises:
        DataError: Lines are missing between measured ones, or more than half of them are.
    """
    measured = np.any(kspace != 0, axis=tuple(range(kspace.ndim - 2)))
    for axis, name in ((0, "columns"), (1, "rows")):
        lines = measured.any(axis=axis)
        if not lines.any():
            raise DataError(f"{where}: kspace holds zeros only")
        first, last = np.flatnonzero(lines)[[0, -1]]
        inside = lines[first : last + 1]
        if not inside.all():
            raise DataError(
                f"{where}: {np.count_nonzero(~inside)} of {inside.size} {name} of k-space were not measured, so that "
                "images would be aliased; use the fully sampled files, or images that were reconstructed before"
            )
        if inside.size < LEAST_SHARE * lines.size:
            raise DataError(
                f"{where}: only {inside.size} of {lines.size} {name} of k-space were measured; images would be blurred"
            )
    return np.asarray(measured)


def _whitening(coil_images_SCHW: ComplexArray, where: str) -> ComplexArray:
    """The matrix (C, C) that makes the coils' noise white with unit variance, from the corners of the images."""
    height, width = (max(2, side // CORNER) for side in coil_images_SCHW.shape[-2:])
    corners = np.concatenate(
        [
            coil_images_SCHW[..., rows, columns].transpose(1, 0, 2, 3).reshape(coil_images_SCHW.shape[1], -1)
            for rows in (slice(None, height), slice(-height, None))
            for columns in (slice(None, width), slice(-width, None))
        ],
        axis=1,
    )
    # Corners of some slices may hold signal, e.g. where the object is larger than the field of view.
    energy = (np.abs(corners) ** 2).sum(axis=0)
    degrees = 2 * len(corners)
    air = corners[:, energy <= np.median(energy) * chi2.ppf(PLAUSIBLE, degrees) / chi2.median(degrees)]
    covariance = air @ air.conj().T / air.shape[1]
    powers = np.linalg.eigvalsh(covariance)
    if powers[0] <= DEPENDENT * powers[-1]:
        raise DataError(
            f"{where}: the corners of the coil images hold no noise of {len(covariance)} independent coils; these "
            "images were masked or compressed, give magnitudes instead (omit --complex)"
        )
    return np.asarray(np.linalg.inv(np.linalg.cholesky(covariance)))


def _centre_of(kspace_SCHW: ComplexArray) -> ComplexArray:
    """Images of low resolution, from the centre of k-space with a smooth window."""
    window = np.ones(1)
    for side in kspace_SCHW.shape[-2:]:
        lines = min(CALIBRATION_LINES, side)
        profile = np.zeros(side)
        start = side // 2 - lines // 2
        profile[start : start + lines] = np.hanning(lines + 2)[1:-1]
        window = np.multiply.outer(window, profile)
    return to_images(kspace_SCHW * window[0])


def _sensitivities(low_resolution_SCHW: ComplexArray) -> ComplexArray:
    """Sensitivities whose squares sum to 1 over the coils."""
    norms = np.sqrt((np.abs(low_resolution_SCHW) ** 2).sum(axis=1, keepdims=True))
    return np.asarray(low_resolution_SCHW / np.where(norms > 0, norms, 1))
