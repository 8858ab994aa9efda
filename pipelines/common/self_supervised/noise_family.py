"""A random family of Gaussian noise: every draw has a level, a spectrum and a map of its own."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

NUMBERS = 8
"""Random numbers that a draw of the parameters reads from the end of each image's normals."""
NODES = 4
"""Side of the grid of random numbers that a smooth map is interpolated from."""

SIZE = (1, NODES + 2, NODES + 1)
"""Channels, rows and columns of normals that have enough numbers for the parameters, the map, and one more, of which
none is read twice."""


class Family(NamedTuple):
    """What varies between draws."""

    level: tuple[float, float]
    """Lowest and highest standard deviation; drawn uniformly on a logarithmic scale."""
    blur_px: float
    """Widest Gaussian filter: half of the draws are white, the others have a width along each axis drawn uniformly."""
    map_ratio: float
    """Largest ratio of the standard deviations that two pixels of one draw may have, up to rare extremes; 1 for none.
    Half of the draws have no map."""


class Drawn(NamedTuple):
    """Noise for N images, with what a network may be told about it."""

    noise: Tensor
    """The noise, (N, C, H, W)."""
    sigma: Tensor
    """Its standard deviation at every pixel, (N, 1, H, W)."""


def draw(family: Family, normal_NCHW: Tensor, numbers_NCHW: Tensor, signal_NCHW: Tensor | None = None) -> Drawn:
    """Draw noise of the family, of one spectrum and map for all channels of an image.

    Args:
        family: Ranges of the parameters.
        normal_NCHW: Standard-normal numbers that become the noise.
        numbers_NCHW: Standard-normal numbers that determine the parameters, independent of the others.
        signal_NCHW: Clean images: the variance of half of the draws then follows them to a random share (photon noise).
    """
    H, W = normal_NCHW.shape[-2:]
    uniform = torch.special.ndtr(numbers_NCHW.flatten(1)[:, -NUMBERS:].float()).unbind(1)
    low, high = family.level
    level = (math.log(low) + uniform[0] * math.log(high / low)).exp()
    variance = _map(numbers_NCHW[:, :1, :NODES, :NODES], uniform[4], family.map_ratio, (H, W)).square()
    if signal_NCHW is not None:
        brightness = signal_NCHW.mean(1, keepdim=True).clamp(min=0)
        brightness = brightness / brightness.mean((-2, -1), keepdim=True).clamp(min=1e-6)
        share = (2 * uniform[5] - 1).clamp(min=0).view(-1, 1, 1, 1)
        variance = variance * (1 - share + share * brightness)
    sigma = level.view(-1, 1, 1, 1) * variance.sqrt()
    is_white = (uniform[1] < 0.5).float()
    widths = [family.blur_px * (1 - is_white) * uniform[i] for i in (2, 3)]
    return Drawn(sigma * filtered(normal_NCHW, *widths), sigma)


def filtered(normal_NCHW: Tensor, rows_N: Tensor, columns_N: Tensor) -> Tensor:
    """White noise after a Gaussian filter of a width per image and axis, in pixels; of unit variance, and periodic."""
    H, W = normal_NCHW.shape[-2:]
    device = normal_NCHW.device
    along_rows = torch.fft.fftfreq(H, device=device)[None, :, None] * rows_N.view(-1, 1, 1)
    along_columns = torch.fft.rfftfreq(W, device=device)[None, None] * columns_N.view(-1, 1, 1)
    amplitude = torch.exp(-2 * math.pi**2 * (along_rows.square() + along_columns.square()))
    # every column of the half spectrum stands for itself and its mirror image, but for the first and an even last
    twice = torch.full((amplitude.shape[-1],), 2.0, device=device)
    twice[0] = 1
    if W % 2 == 0:
        twice[-1] = 1
    power = (amplitude.square() * twice).sum((-2, -1), keepdim=True) / (H * W)
    spectrum = torch.fft.rfft2(normal_NCHW.float()) * (amplitude / power.sqrt())[:, None]
    return torch.fft.irfft2(spectrum, s=(H, W)).to(normal_NCHW.dtype)


def _map(nodes_N1hw: Tensor, uniform_N: Tensor, ratio: float, size: tuple[int, int]) -> Tensor:
    """A smooth relative standard deviation, (N, 1, H, W), with mean square 1; constant for half of the numbers."""
    strength = (
        (2 * uniform_N - 1).clamp(min=0).view(-1, 1, 1, 1) * math.log(ratio) / 4
    )  # +- 2 deviations span the ratio
    smooth = functional.interpolate(nodes_N1hw.float(), size, mode="bicubic", align_corners=True)
    level = (strength * smooth).exp()
    return level / level.square().mean((-2, -1), keepdim=True).sqrt()
