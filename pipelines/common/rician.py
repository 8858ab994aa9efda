"""What the mean of a magnitude image says about the signal beneath: noise that cannot be negative lifts the dark.

For a magnitude m = |x + n| of a signal x >= 0 and complex noise of standard deviation sigma per component (Rician):
E[m] = sigma sqrt(pi / 2) L(x^2 / (2 sigma^2)) and E[m^2] = x^2 + 2 sigma^2, with the Laguerre function
L(s) = exp(-s / 2) [(1 + s) I0(s / 2) + s I1(s / 2)].
"""

import math

import torch
from torch import Tensor

TOP = 12.0
"""Signal over sigma up to which the mean is tabulated; beyond it E[m] = x + sigma^2 / (2 x) to six digits."""
POINTS = 2401
TINY = 1e-30
"""Stands for a sigma of 0, of which no signal is a multiple."""


def mean(signal: Tensor) -> Tensor:
    """E[m] for sigma 1."""
    s = signal.double().square() / 2
    return math.sqrt(math.pi / 2) * ((1 + s) * torch.special.i0e(s / 2) + s * torch.special.i1e(s / 2))


def from_mean(restored: Tensor, sigma: Tensor) -> Tensor:
    """The signal whose mean magnitude is `restored` (0 below the noise's own mean), by inverting E[m].

    As in the correction scheme of Koay and Basser, J. Magn. Reson. 179:317, 2006, with sigma known.
    """
    sigma = sigma.double().clamp_min(TINY)
    level = restored.double() / sigma
    signals = torch.linspace(0, TOP, POINTS, dtype=torch.float64, device=restored.device)
    means = mean(signals)
    above = torch.searchsorted(means, level.contiguous()).clamp(1, POINTS - 1)
    low, high = means[above - 1], means[above]
    found = signals[above - 1] + (level - low) / (high - low) * (signals[above] - signals[above - 1])
    far = (level + (level.square() - 2).clamp_min(0).sqrt()) / 2
    return (torch.where(level > means[-1], far, found.clamp_min(0)) * sigma).to(restored.dtype)


def from_square(restored: Tensor, sigma: Tensor) -> Tensor:
    """sqrt(m^2 - 2 sigma^2), 0 where that is negative: exact for a mean of squares, and so too dark for a mean."""
    return (restored.square() - 2 * sigma.square()).clamp_min(0).sqrt()
