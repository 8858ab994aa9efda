"""Root mean squared error."""

import math

import numpy as np
from numpy.typing import NDArray

from quell.losses.metrics.common.batch_form import BatchForm
from quell.losses.metrics.common.images import checked_pair
from quell.losses.metrics.common.squared_error import mean_squares, root_mean_squared


def rmse(restored: NDArray[np.generic], clean: NDArray[np.generic], *, data_range: float) -> float:
    """Root mean squared error over all pixels and channels; smaller is better.

    Args:
        restored: Image (H, W) or (H, W, C).
        clean: Clean image of the same shape.
        data_range: Not used; the error is in the units of the images.

    Returns:
        The error in [0, inf]; inf for a restored image that is not finite.

    Raises:
        DataError: The images do not fit together.
    """
    restored, clean = checked_pair(restored, clean)
    error = float(np.mean((restored - clean) ** 2))
    return math.sqrt(error) if math.isfinite(error) else math.inf


BATCH_FORM = BatchForm(mean_squares, lambda squares_KN, data_range: data_range * root_mean_squared(squares_KN))
