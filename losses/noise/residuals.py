"""What a restoration removed, compared with the noise: needs the noise's model and no clean image.

The residual is the noisy image minus the restored one. After a perfect restoration it is exactly the noise, whose
power at every spatial frequency is known. Power beyond that is structure that was removed, or an artefact that was
added; power that is missing is noise that was left. Both are needed: a restoration that leaves all of the noise and
removes as much structure has a residual of just the right size.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor

from quell.losses.common.cached_parts import images_at_once
from quell.losses.common.separable_filters import filtered, gaussian_taps, mirrored
from quell.losses.noise.model import Array, FieldNoise

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


def check_residuals(noisy_PHW: Tensor, restored_PHW: Tensor, noise: FieldNoise) -> Tensor:
    """`check_residual` of many planes on their device, in float32.

    Args:
        noisy_PHW: Planes (P, H, W), real or complex, in stored units.
        restored_PHW: The restored planes, alike.
        noise: Model of their noise.

    Returns:
        The numbers of `ResidualChecks`, (5, P), which agree with those of `check_residual` within 1e-6.
    """
    if noise.sigma == 0:
        return noisy_PHW.real.new_full((len(ResidualChecks._fields), len(noisy_PHW)), np.nan)
    height, width = noisy_PHW.shape[-2:]
    level_HW, cells = _expected(noise, height, width, noisy_PHW.device)
    count = images_at_once(height * width, noisy_PHW.device)
    parts = zip(noisy_PHW.split(count), restored_PHW.split(count), strict=True)
    return torch.cat([_check_planes(noisy, restored, level_HW, cells) for noisy, restored in parts], dim=1)


def _check_planes(noisy_PHW: Tensor, restored_PHW: Tensor, level_HW: Tensor, expected: Tensor) -> Tensor:
    """The checks of planes whose noise has this level at every pixel, and this power in every cell."""
    noisy, restored = (torch.stack([x.real, x.imag]) if x.is_complex() else x[None] for x in (noisy_PHW, restored_PHW))
    residual, scaled = (noisy - restored).div_(level_HW), restored / level_HW
    difference = (_cell_means_of(residual).mean(0) - expected) / expected.sum()
    energy_PHW, magnitude_PHW = _sum_of_squares(residual), _sum_of_squares(restored).sqrt_()
    centred = [x - x.mean((-2, -1), keepdim=True) for x in (residual, scaled)]
    covariance = centred[0].mul_(centred[1]).mean((-2, -1)).mean(0)
    return torch.stack(
        [
            (energy_PHW.mean((-2, -1)) / len(residual)).sqrt(),
            difference.clamp_min(0).sum((-2, -1)),
            (-difference).clamp_min(0).sum((-2, -1)),
            _structure_correlations(energy_PHW, magnitude_PHW),
            (-covariance).clamp_min(0),
        ]
    )


def _sum_of_squares(components: Tensor) -> Tensor:
    """Sum over the first axis of the squares."""
    total = components[0].square()
    for component in components[1:]:
        total.addcmul_(component, component)
    return total


@lru_cache(maxsize=32)
def _expected(noise: FieldNoise, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The level of the noise at every pixel and its power in every cell, on a device: images of a split share both."""
    arrays = noise.map_at(height, width), _cell_means(noise.spectrum_at(height, width))
    level, cells = (torch.from_numpy(array).float().to(device) for array in arrays)
    return level, cells


def _cell_starts(size: int) -> NDArray[np.int64]:
    """Where the cells of the frequency plane begin along an axis, in the order of fftshift."""
    return np.linspace(0, size, CELLS + 1).astype(np.int64)[:-1]


def _shifts(height: int, width: int) -> list[tuple[int, int]]:
    """By how much the copies of the residual are shifted that show what is chance."""
    return [(height * (i + 1) // (SHIFTS + 1), width * (3 * i + 2) // (3 * SHIFTS)) for i in range(SHIFTS)]


def _cell_means_of(x: Tensor) -> Tensor:
    """`_cell_means` of the power spectrum of real planes (..., H, W): (..., CELLS, CELLS).

    Half of the plane is computed; the other half has the same power, with both frequencies negated.
    """
    height, width = x.shape[-2:]
    spectrum = torch.fft.rfft2(x, norm="ortho")
    half = torch.addcmul(spectrum.real * spectrum.real, spectrum.imag, spectrum.imag)
    negated = half.flip(-2).roll(1, -2)
    sums = [_sums(torch.fft.fftshift(power, dim=-2), -2) for power in (half, negated)]
    rows = torch.cat([sums[1][..., 1 : width // 2 + 1].flip(-1), sums[0][..., : width - width // 2]], dim=-1)
    return _sums(rows, -1) / (height * width)


def _sums(x: Tensor, dim: int) -> Tensor:
    """Sums over the cells along one axis; an empty cell has its first element, as with numpy's `reduceat`."""
    starts = _cell_starts(x.shape[dim]).tolist()
    sizes = [max(1, end - start) for start, end in zip(starts, [*starts[1:], x.shape[dim]], strict=True)]
    return torch.stack([x.narrow(dim, *cell).sum(dim) for cell in zip(starts, sizes, strict=True)], dim)


def _sum_of_shifted(planes_PHW: Tensor, shifts: list[tuple[int, int]]) -> Tensor:
    """The sum of copies of the planes that are rolled by these rows and columns."""
    total = torch.zeros_like(planes_PHW)
    height, width = planes_PHW.shape[-2:]
    for rows, columns in shifts:
        for to_row, from_row, count in ((rows, 0, height - rows), (0, height - rows, rows)):
            for to_column, from_column, length in ((columns, 0, width - columns), (0, width - columns, columns)):
                piece = planes_PHW.narrow(-2, from_row, count).narrow(-1, from_column, length)
                total.narrow(-2, to_row, count).narrow(-1, to_column, length).add_(piece)
    return total


def _structure_correlations(energy_PHW: Tensor, restored_PHW: Tensor) -> Tensor:
    """`_structure_correlation` of every plane, (P,)."""
    image, rise, smooth_3 = mirrored(restored_PHW, 1), (-1, 0, 1), (1, 2, 1)
    down, across = filtered(image, rise, smooth_3), filtered(image, smooth_3, rise)
    radius_px = round(4 * STRUCTURE_PX)  # where gaussian_filter cuts its window
    taps = gaussian_taps(STRUCTURE_PX, radius_px)
    smooth = filtered(
        mirrored(torch.cat([down.square_().addcmul_(across, across).sqrt_(), energy_PHW]), radius_px), taps, taps
    )
    edges, local = (smooth - smooth.mean((-2, -1), keepdim=True)).chunk(2)
    shifted = _sum_of_shifted(local, _shifts(*local.shape[-2:])) / SHIFTS
    spread = (edges.square().mean((-2, -1)) * local.square().mean((-2, -1))).sqrt()
    above_chance = (edges * (local - shifted)).mean((-2, -1)) / spread
    is_flat = (smooth.amax((-2, -1)) == smooth.amin((-2, -1))).view(2, -1).any(0)
    return torch.where(is_flat, 0.0, above_chance)


def _cell_means(power: Array) -> Array:
    """Mean power in each cell of the frequency plane, weighted by the cells' sizes, (CELLS, CELLS)."""
    rows, columns = (_cell_starts(size) for size in power.shape)
    sums = np.add.reduceat(np.add.reduceat(np.fft.fftshift(power), rows, axis=0), columns, axis=1)
    return np.asarray(sums / power.size)


def _structure_correlation(energy: Array, restored: Array) -> float:
    """Correlation of the local energy with the edges, minus its mean over shifted copies of the energy."""
    slopes = (scipy.ndimage.sobel(restored, axis) for axis in (0, 1))
    edges = scipy.ndimage.gaussian_filter(np.hypot(*slopes), STRUCTURE_PX)
    local = scipy.ndimage.gaussian_filter(energy, STRUCTURE_PX)
    if np.ptp(edges) == 0 or np.ptp(local) == 0:
        return 0.0
    chance = [_correlation(np.roll(local, shift, (0, 1)), edges) for shift in _shifts(*local.shape)]
    return _correlation(local, edges) - float(np.mean(chance))


def _covariance(a: Image, b: Image) -> float:
    """Covariance over pixels; of complex images, summed over the two components."""
    return float(np.mean((a - a.mean()) * np.conj(b - b.mean())).real)


def _correlation(a: Array, b: Array) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])
