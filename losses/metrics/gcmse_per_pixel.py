"""Gradient-conducted mean squared error that does not depend on the size of the image."""

import numpy as np
from numpy.typing import NDArray

from quell.losses.metrics.common.batch_form import BatchForm
from quell.losses.metrics.gcmse import weighted_error, weighted_errors


def gcmse_per_pixel(restored: NDArray[np.generic], clean: NDArray[np.generic], *, data_range: float) -> float:
    """Sum of (G * error)**2 over sum of G; smaller is better.

    G in [0, 1] is the edge strength of the clean image, so that errors count where it has edges (`weighted_error`).
    Tiles of an image score as the image does, except for the seams.

    Args:
        restored: Image (H, W) or (H, W, C).
        clean: Clean image of the same shape.
        data_range: Difference between the largest and the smallest value that images can have; both are divided by it.

    Returns:
        The error in [0, inf]; NaN for a clean image with a flat channel, inf for a restored image that is not finite.

    Raises:
        DataError: The images do not fit together, or `data_range` is not positive.

    Source:
        Lopez-Randulfe et al., Springer LNCS 10658, 2017, with the weights of the TCFL reproduction.
    """
    return weighted_error(restored, clean, data_range)


BATCH_FORM = BatchForm(weighted_errors)
