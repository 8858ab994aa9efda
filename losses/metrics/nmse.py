"""Normalised mean squared error: squared error relative to the clean image."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quell.losses.metrics.common.batch_form import BatchForm, Values
from quell.losses.metrics.common.images import checked_pair
from quell.losses.metrics.common.squared_error import mean_squares


def nmse(restored: NDArray[np.generic], clean: NDArray[np.generic], *, data_range: float) -> float:
    """Sum of (restored - clean)**2 over sum of clean**2; smaller is better.

    Args:
        restored: Image (H, W) or (H, W, C).
        clean: Clean image of the same shape.
        data_range: Not used; the ratio does not depend on it.

    Returns:
        The error in [0, inf], without unit: 0 for equal images, 1 for an image of zeros; inf for a restored image that
        is not finite, NaN for a clean image of zeros.

    Raises:
        DataError: The images do not fit together.
    """
    restored, clean = checked_pair(restored, clean)
    energy = float(np.sum(clean**2))
    error = float(np.sum((restored - clean) ** 2))
    if energy == 0:
        return math.nan
    return error / energy if math.isfinite(error) else math.inf


def _measure(restored_KNCHW: Tensor, clean_NCHW: Tensor) -> Tensor:
    """The mean squares of the errors and of the clean images, (2, K, N)."""
    error_KN = mean_squares(restored_KNCHW, clean_NCHW)
    return torch.stack([error_KN, clean_NCHW.square().flatten(1).mean(-1).expand_as(error_KN)])


def _ratio(squares_2KN: Values, data_range: float) -> Values:
    """The ratio of the two mean squares, which have the same number of pixels."""
    error_KN, clean_KN = squares_2KN
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio_KN = np.where(np.isfinite(error_KN), error_KN / clean_KN, np.inf)
    return np.where(clean_KN == 0, np.nan, ratio_KN)


BATCH_FORM = BatchForm(_measure, _ratio)
