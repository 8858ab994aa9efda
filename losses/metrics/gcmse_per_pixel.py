"""Gradient-conducted mean squared error, free of the image's size."""

import numpy as np
from numpy.typing import NDArray

from losses.metrics.gcmse import weighted_error


def gcmse_per_pixel(restored: NDArray[np.generic], clean: NDArray[np.generic], *, data_range: float) -> float:
    """Squared error where the clean image has edges, of images divided by `data_range`; smaller is better.

    Sum of (G * error)**2 over sum of G, G in [0, 1] the strength of the clean image's edges. Tiles of one picture score
    as the picture does, but for the seams.
    """
    return weighted_error(restored, clean, data_range)
