"""Root mean squared error."""

import math

import numpy as np
from numpy.typing import NDArray

from losses.metrics.common.images import checked_pair


def rmse(restored: NDArray[np.generic], clean: NDArray[np.generic], *, data_range: float) -> float:
    """sqrt(mean of (restored - clean)**2) in the units of the images, smaller is better; inf for a restored
    image that is not finite. `data_range` plays no part.
    """
    restored, clean = checked_pair(restored, clean)
    error = float(np.mean((restored - clean) ** 2))
    return math.sqrt(error) if math.isfinite(error) else math.inf
