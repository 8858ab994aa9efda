"""The noise bias of magnitude images, and its correction.

The magnitude m = |x + n| of a signal x >= 0 with complex noise n of standard deviation sigma per component has a Rice
distribution: E[m] = sigma sqrt(pi / 2) L(x^2 / (2 sigma^2)) and E[m^2] = x^2 + 2 sigma^2, with the Laguerre function
L(s) = exp(-s / 2) [(1 + s) I0(s / 2) + s I1(s / 2)].
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from quell.losses.common.pixel_differences import highest_precision

TOP = 12.0
"""Signal over sigma up to which the mean is tabulated; beyond it E[m] = x + sigma^2 / (2 x) to six digits."""
POINTS = 2401
LOCAL_PX = 7
"""Side of the window over which `spread` takes the mean of a noisy image."""
RAYLEIGH = math.sqrt(2 - math.pi / 2)
"""Standard deviation of a magnitude without signal, for sigma = 1."""
TINY = 1e-30
"""Lower limit of sigma, so that signals can be divided by a sigma of 0."""


def mean(signal: Tensor) -> Tensor:
    """E[m] for sigma = 1."""
    s = highest_precision(signal).square() / 2
    return math.sqrt(math.pi / 2) * ((1 + s) * torch.special.i0e(s / 2) + s * torch.special.i1e(s / 2))


def spread(noisy_NCHW: Tensor, sigma: Tensor) -> Tensor:
    """Standard deviation of magnitudes over that of a component, at the signal that their local mean shows.

    From 0.655 without signal (Rayleigh) to 1 at a high signal-to-noise ratio (Gaussian); shapes as for `from_mean`.
    """
    padded = functional.pad(noisy_NCHW, (LOCAL_PX // 2,) * 4, mode="reflect")
    local = functional.avg_pool2d(padded, LOCAL_PX, stride=1)
    return _deviation(from_mean(local, sigma), sigma).to(noisy_NCHW.dtype)


def expected(signal: Tensor, sigma: Tensor) -> Tensor:
    """E[m] of a signal, in the units of both; the inverse of `from_mean`."""
    sigma = highest_precision(sigma).clamp_min(TINY)
    # beyond the table the functions of large arguments lose digits
    level = highest_precision(signal).abs() / sigma
    asymptotic = level + 1 / (2 * level.clamp_min(TOP))
    return (torch.where(level > TOP, asymptotic, mean(level.clamp(max=TOP))) * sigma).to(signal.dtype)


def residual(noisy: Tensor, signal: Tensor, sigma: Tensor) -> Tensor:
    """Noise of a magnitude around the mean that the signal has, scaled so that its standard deviation is sigma."""
    return ((noisy - expected(signal, sigma)) / _deviation(signal, sigma)).to(noisy.dtype)


def gaussian_share(signal: Tensor, sigma: Tensor) -> Tensor:
    """How far the noise of a magnitude is from Rayleigh's (0, without signal) to Gaussian noise (1)."""
    return (_deviation(signal, sigma) - RAYLEIGH) / (1 - RAYLEIGH)


def _deviation(signal: Tensor, sigma: Tensor) -> Tensor:
    """Standard deviation of magnitudes over sigma."""
    level = (highest_precision(signal) / highest_precision(sigma).clamp_min(TINY)).clamp(0, TOP)
    return (level.square() + 2 - mean(level).square()).clamp(RAYLEIGH**2, 1).sqrt()


def from_mean(restored: Tensor, sigma: Tensor) -> Tensor:
    """Invert E[m]: the signal whose mean magnitude is `restored`.

    As in the correction scheme of Koay and Basser, J. Magn. Reson. 179:317, 2006, with a known sigma.

    Args:
        restored: Means of magnitudes, of any shape.
        sigma: Noise standard deviation per component in the same units, broadcastable to `restored`.

    Returns:
        The signal; 0 where `restored` is below the mean of pure noise.
    """
    sigma = highest_precision(sigma).clamp_min(TINY)
    level = highest_precision(restored) / sigma
    signals = torch.linspace(0, TOP, POINTS, dtype=level.dtype, device=restored.device)
    means = mean(signals)
    above = torch.searchsorted(means, level.contiguous()).clamp(1, POINTS - 1)
    low, high = means[above - 1], means[above]
    share = (level - low) / (high - low).clamp_min(TINY)  # in float32 the first means are equal
    interpolated = signals[above - 1] + share * (signals[above] - signals[above - 1])
    asymptotic = (level + (level.square() - 2).clamp_min(0).sqrt()) / 2
    signal = torch.where(level > means[-1], asymptotic, interpolated.clamp_min(0))
    return (signal * sigma).to(restored.dtype)


def from_square(restored: Tensor, sigma: Tensor) -> Tensor:
    """Invert E[m^2]: sqrt(restored^2 - 2 sigma^2), 0 where that is negative.

    Exact for the root of a mean of squares, hence too dark for a mean. Arguments as for `from_mean`.
    """
    return (restored.square() - 2 * sigma.square()).clamp_min(0).sqrt()
