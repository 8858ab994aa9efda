"""What a restoration removed, compared with the noise: needs the noise's model and no clean image.

The residual is the noisy image minus the restored one. After a perfect restoration it is exactly the noise, whose
power at every spatial frequency is known. Power beyond that is structure that was removed, or an artefact that was
added; power that is missing is noise that was left. Both are needed: a restoration that leaves all of the noise and
removes as much structure has a residual of just the right size.
"""

from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from losses.noise.model import Array, FieldNoise

Image = NDArray[np.inexact]

CELLS = 12
"""Cells of the frequency plane along each axis. The power is averaged over a cell, so that chance hardly counts."""

STRUCTURE_PX = 2.0
"""Width of the Gaussian windows in which the residual's energy is compared with the strength of edges."""

SHIFTS = 8
"""Shifted copies of the residual that show what its relation to the edges is by chance."""


class ResidualChecks(NamedTuple):
    """How far a residual is from the noise."""

    removed: float
    """Root mean square of the residual over that of the noise."""
    excess: float
    """Power beyond the noise's, summed over frequencies, as a share of the noise's power: structure was removed."""
    missing: float
    """Power short of the noise's, likewise: noise that was left."""
    structure: float
    """Correlation of the residual's local energy with the strength of edges in the restored image, above chance."""
    added: float
    """Covariance of the restored image with what was added to the noisy one, as a share of the noise's power: a pattern
    that the noisy image does not have."""


def check_residual(noisy: Image, restored: Image, noise: FieldNoise) -> ResidualChecks:
    """Compare what was removed from an image with its noise.

    Args:
        noisy: Image (H, W), real or complex, in stored units.
        restored: The restored image, alike.
        noise: Model of its noise in the same units; per component for complex images.

    Returns:
        The checks; NaN where the model has no noise. A perfect restoration has removed 1 and the others 0, up to
        chance.
    """
    if noise.sigma == 0:
        return ResidualChecks(*[np.nan] * len(ResidualChecks._fields))
    # in units of the noise, so that a map of levels does not look like structure
    level = noise.map_at(*noisy.shape)
    residual = np.asarray(noisy - restored) / level
    components = [residual.real, residual.imag] if np.iscomplexobj(residual) else [residual]
    expected = _cell_means(noise.spectrum_at(*noisy.shape))
    power = np.mean([_cell_means(np.abs(np.fft.fft2(part)) ** 2 / part.size) for part in components], axis=0)
    difference = (power - expected) / expected.sum()
    energy = np.sum([part**2 for part in components], axis=0)
    return ResidualChecks(
        removed=float(np.sqrt(np.mean(energy) / len(components))),
        excess=float(difference.clip(0).sum()),
        missing=float((-difference).clip(0).sum()),
        structure=_structure_correlation(energy, np.abs(restored)),
        added=max(0.0, -_covariance(residual, np.asarray(restored) / level) / len(components)),
    )


def _cell_means(power: Array) -> Array:
    """Mean power in each cell of the frequency plane, weighted by the cells' sizes, (CELLS, CELLS)."""
    rows, columns = (np.linspace(0, size, CELLS + 1).astype(int)[:-1] for size in power.shape)
    sums = np.add.reduceat(np.add.reduceat(np.fft.fftshift(power), rows, axis=0), columns, axis=1)
    return np.asarray(sums / power.size)


def _structure_correlation(energy: Array, restored: Array) -> float:
    """Correlation of the local energy with the edges, minus its mean over shifted copies of the energy."""
    slopes = (scipy.ndimage.sobel(restored, axis) for axis in (0, 1))
    edges = scipy.ndimage.gaussian_filter(np.hypot(*slopes), STRUCTURE_PX)
    local = scipy.ndimage.gaussian_filter(energy, STRUCTURE_PX)
    if np.ptp(edges) == 0 or np.ptp(local) == 0:
        return 0.0
    height, width = local.shape
    shifts = [(height * (i + 1) // (SHIFTS + 1), width * (3 * i + 2) // (3 * SHIFTS)) for i in range(SHIFTS)]
    chance = [_correlation(np.roll(local, shift, (0, 1)), edges) for shift in shifts]
    return _correlation(local, edges) - float(np.mean(chance))


def _covariance(a: Image, b: Image) -> float:
    """Covariance over pixels; of complex images, summed over the two components."""
    return float(np.mean((a - a.mean()) * np.conj(b - b.mean())).real)


def _correlation(a: Array, b: Array) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])
