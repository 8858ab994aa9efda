"""Separable filters over many planes at once, and the way planes are continued beyond their borders for them."""

from collections.abc import Sequence

import torch
from torch import Tensor


def gaussian_taps(sigma_px: float, radius_px: int) -> tuple[float, ...]:
    """A Gaussian window of 2 * radius_px + 1 taps that add up to 1."""
    offset_px = torch.arange(-radius_px, radius_px + 1, dtype=torch.float64)
    window = torch.exp(-offset_px.square() / (2 * sigma_px**2))
    return tuple((window / window.sum()).tolist())


def filtered(planes: Tensor, down: Sequence[float], across: Sequence[float], step: int = 1) -> Tensor:
    """Correlate planes with two windows, one along each axis, where both fit: (..., H - taps + 1, W - taps + 1).

    Shifted copies are added up. A convolution does the same more slowly on a CPU, and on a GPU rounds to TF32.

    Args:
        planes: Real planes (..., H, W).
        down: The window along the height.
        across: The window along the width.
        step: Every how many positions are computed.
    """
    return _correlated(_correlated(planes, down, -2, step), across, -1, step)


def mirrored(planes: Tensor, margin_px: int) -> Tensor:
    """Planes (..., H, W) continued by their mirror image, the border pixel twice: `mode="reflect"` of scipy.ndimage."""
    for dim in (-2, -1):
        size = planes.shape[dim]
        if margin_px <= size:
            first, last = planes.narrow(dim, 0, margin_px), planes.narrow(dim, size - margin_px, margin_px)
            planes = torch.cat([first.flip(dim), planes, last.flip(dim)], dim)
        else:  # the mirror images are mirrored again
            position = torch.arange(-margin_px, size + margin_px, device=planes.device) % (2 * size)
            planes = planes.index_select(dim, torch.minimum(position, 2 * size - 1 - position))
    return planes


def _correlated(x: Tensor, taps: Sequence[float], dim: int, step: int) -> Tensor:
    """The correlation with a window along one axis."""
    reach = (x.shape[dim] - len(taps)) // step * step + 1
    total: Tensor | None = None
    for i, tap in enumerate(taps):
        if tap == 0:
            continue
        shifted = x.narrow(dim, i, reach)
        if step > 1:
            shifted = shifted[..., ::step] if dim == -1 else shifted[..., ::step, :]
        total = shifted * tap if total is None else total.add_(shifted, alpha=tap)
    assert total is not None
    return total
