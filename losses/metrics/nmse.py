"""Squared error relative to the clean image."""

import math

import numpy as np
from numpy.typing import NDArray

from losses.metrics.common.images import checked_pair


def nmse(restored: NDArray[np.generic], clean: NDArray[np.generic], *, data_range: float) -> float:
    """Sum of (restored - clean)**2 over sum of clean**2; 0 is best, an empty image scores 1; no unit.

    inf for a restored image that is not finite, NaN for a clean image that is zero everywhere. `data_range` plays no
    part.
    """
    restored, clean = checked_pair(restored, clean)
    energy = float(np.sum(clean**2))
    error = float(np.sum((restored - clean) ** 2))
    if energy == 0:
        return math.nan
    return error / energy if math.isfinite(error) else math.inf
