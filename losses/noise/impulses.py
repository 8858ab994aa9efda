"""Impulse noise (salt and pepper), which no Gaussian model describes."""

import numpy as np
import scipy
from numpy.typing import NDArray

Array = NDArray[np.float64]

NEIGHBOURS = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=bool)
DEVIATIONS = 6.0
"""An impulse departs from all neighbours but one by so many robust standard deviations of the noise around it."""
BLOCK = 32
"""Side of the blocks whose noise is told apart: it may vary over the image."""
TOLERATED = 5e-3
"""Share of impulses above which noise is not taken as Gaussian."""


def impulse_share(planes: list[Array]) -> float:
    """Share of the pixels that stand out from their neighbours as no Gaussian noise does, 0 to 1."""
    return float(np.mean([_share(plane) for plane in planes]))


def _share(plane: Array) -> float:
    second_largest = scipy.ndimage.rank_filter(plane, -2, footprint=NEIGHBOURS, mode="mirror")
    second_smallest = scipy.ndimage.rank_filter(plane, 1, footprint=NEIGHBOURS, mode="mirror")
    deviation = np.abs(plane - (second_largest + second_smallest) / 2)
    limit = DEVIATIONS * np.maximum(1.4826 * _block_medians(deviation), 1e-12 * np.abs(plane).max() + 1e-300)
    stands_out = (plane > second_largest + limit) | (plane < second_smallest - limit)
    return float(stands_out.mean())


def _block_medians(plane: Array) -> Array:
    """The median of the block that every pixel is in, or that of the image if it is larger."""
    medians = np.full(plane.shape, np.median(plane))
    for row in range(0, plane.shape[0], BLOCK):
        for column in range(0, plane.shape[1], BLOCK):
            block = (slice(row, row + BLOCK), slice(column, column + BLOCK))
            medians[block] = np.maximum(medians[block], np.median(plane[block]))
    return medians
