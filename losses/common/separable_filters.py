"""Separable filters over many planes at once, and the way planes are continued beyond their borders for them."""

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian_taps(sigma_px: float, radius_px: int) -> tuple[float, ...]:
    """A Gaussian window of 2 * radius_px + 1 taps that add up to 1."""
    offset_px = torch.arange(-radius_px, radius_px + 1, dtype=torch.float64)
    window = torch.exp(-offset_px.square() / (2 * sigma_px**2))
    return tuple((window / window.sum()).tolist())


def filtered(planes_PHW: Tensor, down: Sequence[float], across: Sequence[float], step: int = 1) -> Tensor:
    """Correlate every plane with two windows, one along each axis, where both fit: (P, H - taps + 1, W - taps + 1).

    Planes are treated as the channels of one image: a convolution of one channel is many times slower on a CPU, and on
    a GPU a convolution with a filter per channel does not round its factors to TF32.

    Args:
        planes_PHW: Real planes in float32.
        down: The window along the height.
        across: The window along the width.
        step: Every how many positions are computed.
    """
    image_1PHW = planes_PHW[None]
    if planes_PHW.device.type == "cpu":
        image_1PHW = image_1PHW.contiguous(memory_format=torch.channels_last)
    count = len(planes_PHW)
    for taps, shape, steps in ((down, (-1, 1), (step, 1)), (across, (1, -1), (1, step))):
        kernel_hw = _on_device(tuple(taps), planes_PHW.device).view(shape)
        image_1PHW = F.conv2d(image_1PHW, kernel_hw.expand(count, 1, -1, -1), stride=steps, groups=count)
    return image_1PHW[0].contiguous()


def mirrored(planes: Tensor, margin_px: int) -> Tensor:
    """Planes (..., H, W) continued by their mirror image, the border pixel twice: `mode="reflect"` of scipy.ndimage."""
    for dim in (-2, -1):
        size = planes.shape[dim]
        position = torch.arange(-margin_px, size + margin_px, device=planes.device) % (2 * size)
        planes = planes.index_select(dim, torch.minimum(position, 2 * size - 1 - position))
    return planes


@lru_cache(maxsize=64)
def _on_device(taps: tuple[float, ...], device: torch.device) -> Tensor:
    """A window on a device, which is copied there once."""
    return torch.tensor(taps, dtype=torch.float32, device=device)
