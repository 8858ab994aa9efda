"""Normalised mean squared error: squared error relative to the clean image."""

import math

import numpy as np
from numpy.typing import NDArray

from losses.metrics.common.images import checked_pair


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
