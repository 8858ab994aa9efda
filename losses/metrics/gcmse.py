"""Gradient-conducted mean squared error: errors count where the clean image has edges."""

import math

import numpy as np
from numpy.typing import NDArray

from losses.metrics.common.images import Image, checked_pair, checked_range, finite

KAPPA = 0.5


def gcmse(restored: NDArray[np.generic], clean: NDArray[np.generic], *, data_range: float) -> float:
    """`gcmse_per_pixel` times height times width, as published tables give it; smaller is better.

    It grows with the area of the image: 450 x 900 pixels score a hundred times what the same picture of 45 x 90 does.
    Compare only between images of one size, and give that size.
    """
    height, width = restored.shape[:2]
    return height * width * weighted_error(restored, clean, data_range)


def weighted_error(restored: NDArray[np.generic], clean: NDArray[np.generic], data_range: float) -> float:
    """Sum of (G * (restored - clean))**2 over sum of G, both images divided by `data_range`; mean over channels.

    G = 1 - mean of exp(-(g / 0.5)**2) over the clean image's differences g to the four neighbours; at the border the
    neighbour outside counts as equal. NaN for a clean image with a flat channel, inf for a restored image that is not
    finite.
    Source: Lopez-Randulfe et al., Springer LNCS 10658, 2017, with the weights of the TCFL reproduction.
    """
    restored, clean = checked_pair(restored, clean)
    range_ = checked_range(data_range)
    if not finite(restored):
        return math.inf
    planes = [np.atleast_3d(image) / range_ for image in (restored, clean)]
    values = []
    for c in range(planes[0].shape[2]):
        weight = _edges(planes[1][..., c])
        total = float(weight.sum())
        error = float(np.sum((weight * (planes[0][..., c] - planes[1][..., c])) ** 2))
        values.append(error / total if total > 0 else math.nan)
    return float(np.mean(values))


def _edges(clean: Image) -> Image:
    conductance = np.zeros_like(clean)
    for axis in (0, 1):
        across = np.exp(-((np.diff(clean, axis=axis) / KAPPA) ** 2))
        edge = [(0, 0), (0, 0)]
        for edge[axis] in ((0, 1), (1, 0)):
            conductance += np.pad(across, edge, constant_values=1.0)
    return np.asarray(1 - conductance / 4)
