"""Peak signal-to-noise ratio."""

import math

import numpy as np
from numpy.typing import NDArray

from quell.losses.metrics.common.batch_form import BatchForm, Values
from quell.losses.metrics.common.images import checked_pair, checked_range
from quell.losses.metrics.common.squared_error import mean_squares, root_mean_squared


def psnr(restored: NDArray[np.generic], clean: NDArray[np.generic], *, data_range: float) -> float:
    """10 log10(data_range**2 / mean squared error) in dB, over all pixels and channels; larger is better.

    Args:
        restored: Image (H, W) or (H, W, C).
        clean: Clean image of the same shape.
        data_range: Difference between the largest and the smallest value that images can have, which is the
            peak. A peak taken from the image, as in some published scripts, would make the number depend on the noise.

    Returns:
        The ratio in (-inf, inf]; inf for equal images, -inf for a restored image that is not finite.

    Raises:
        DataError: The images do not fit together, or `data_range` is not positive.
    """
    restored, clean = checked_pair(restored, clean)
    error = float(np.mean((restored - clean) ** 2))
    if not math.isfinite(error):
        return -math.inf
    return 10 * math.log10(checked_range(data_range) ** 2 / error) if error != 0 else math.inf


def _decibels(squares_KN: Values, data_range: float) -> Values:
    """The ratio, from the mean squared error of images divided by the data range."""
    with np.errstate(divide="ignore"):
        return np.asarray(-20 * np.log10(root_mean_squared(squares_KN)))


BATCH_FORM = BatchForm(mean_squares, _decibels)
