"""The form of a metric that measures several restorations of a batch of images at once, where the images are.

A metric is defined by its function on numpy arrays in float64. Its batch form computes the same on a device in float32,
which not every device exceeds, and only the last operation on the host in float64: the two agree within 1e-6, relative
to values above 1. (SSIM within 5e-6, where images of few even levels have nothing in common.)
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quell.configs.errors import DataError
from quell.losses.common.cached_parts import images_at_once

Values = NDArray[np.float64]


def unchanged(values_KN: Values, data_range: float) -> Values:
    """The values themselves."""
    return values_KN


@dataclass(frozen=True)
class BatchForm:
    """How a metric is computed of a batch."""

    measure: Callable[[Tensor, Tensor], Tensor]
    """Called with restored images (K, N, C, H, W) and their clean images (N, C, H, W), both real, in float32 and
    divided by the data range; returns (K, N), or several numbers of each as (..., K, N), on the same device."""
    finish: Callable[[Values, float], Values] = unchanged
    """Called on the host with what `measure` returned, in float64, and the data range; returns the metric, (K, N)."""

    def __call__(self, restored_KNCHW: Tensor, clean_NCHW: Tensor) -> Tensor:
        """`measure`, of some images at a time.

        Raises:
            DataError: The metric cannot be computed of images of this size or kind.
        """
        count = images_at_once(restored_KNCHW[:, 0].numel(), restored_KNCHW.device)
        parts = zip(restored_KNCHW.split(count, 1), clean_NCHW.split(count), strict=True)
        return torch.cat([self.measure(restored, clean) for restored, clean in parts], dim=-1)


def worst_unless_finite(values_KN: Tensor, restored_KNCHW: Tensor, worst: float) -> Tensor:
    """The values, but the worst score for restored images that are not finite: a diverged network must not be NaN."""
    is_finite_KN = restored_KNCHW.flatten(2).sum(-1).isfinite()
    return torch.where(is_finite_KN, values_KN, worst)


def within_float32(restored_KNCHW: Tensor) -> Tensor:
    """Restored images limited to a billion data ranges, so that products of a diverged network's values are finite."""
    return restored_KNCHW.clamp(-1e9, 1e9)


def require_size(clean_NCHW: Tensor, smallest_px: int, metric: str) -> None:
    """Raise DataError for images of fewer pixels a side."""
    height, width = clean_NCHW.shape[-2:]
    if min(height, width) < smallest_px:
        raise DataError(f"{metric} needs images of at least {smallest_px} px a side, got {height} x {width}")
