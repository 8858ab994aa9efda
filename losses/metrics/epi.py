"""Edge preservation index."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quell.losses.metrics.common.batch_form import BatchForm, worst_unless_finite
from quell.losses.metrics.common.images import checked_pair, is_finite


def epi(restored: NDArray[np.generic], clean: NDArray[np.generic], *, data_range: float) -> float:
    """Sum of |differences of neighbouring pixels| of the restored image, over that of the clean one; 1 is best.

    Differences are in both directions. Below 1 edges are blurred, above 1 noise is left. The index does not say where
    the differences are, so read it together with PSNR. Published scripts for OCT compute the inverse, clean over
    restored, of vertical differences only.

    Args:
        restored: Image (H, W) or (H, W, C).
        clean: Clean image of the same shape.
        data_range: Not used; the ratio does not depend on it.

    Returns:
        The index in [0, inf]; NaN for a flat clean image, inf for a restored image that is not finite.

    Raises:
        DataError: The images do not fit together.
    """
    return edge_ratio(restored, clean, axes=(0, 1))


def edge_ratio(restored: NDArray[np.generic], clean: NDArray[np.generic], *, axes: tuple[int, ...]) -> float:
    """The index of differences along these axes: 0 is vertical (between rows), 1 horizontal (between columns)."""
    restored, clean = checked_pair(restored, clean)
    if not is_finite(restored):
        return math.inf
    restored_sum, clean_sum = (
        sum(float(np.abs(np.diff(image, axis=axis)).sum()) for axis in axes) for image in (restored, clean)
    )
    return restored_sum / clean_sum if clean_sum > 0 else math.nan


def edge_ratio_form(*axes: int) -> BatchForm:
    """The batch form of `edge_ratio` along these axes."""

    def measure(restored_KNCHW: Tensor, clean_NCHW: Tensor) -> Tensor:
        restored_KN, clean_N = (
            torch.stack([image.diff(dim=axis - 2).abs().flatten(-3).sum(-1) for axis in axes]).sum(0)
            for image in (restored_KNCHW, clean_NCHW)
        )
        ratio_KN = torch.where(clean_N > 0, restored_KN / clean_N, math.nan)
        return worst_unless_finite(ratio_KN, restored_KNCHW, math.inf)

    return BatchForm(measure)


BATCH_FORM = edge_ratio_form(0, 1)
