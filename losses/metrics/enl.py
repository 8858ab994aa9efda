"""Equivalent number of looks."""

import math

import numpy as np
from numpy.typing import NDArray

from losses.metrics.common.images import checked, finite
from losses.metrics.common.rois import Rois, grey, regions


def enl(
    restored: NDArray[np.generic],
    clean: NDArray[np.generic] | None = None,
    *,
    data_range: float,
    rois: Rois | None = None,
) -> float:
    """mean**2 / variance of background regions, mean over regions, larger is smoother; inf for a constant region, 0 for
    an image that is not finite.

    It depends on the scale: intensities and their logarithm give different numbers, so does an offset. The regions are
    `rois`, else found in the clean image; `data_range` plays no part. Colours are averaged first.
    """
    image, rois = grey(checked(restored)), regions(restored, clean, rois)
    if not finite(image):
        return 0.0
    pieces = [box.of(image) for box in rois.background]
    return float(np.mean([float(p.mean()) ** 2 / float(p.var()) if p.var() > 0 else math.inf for p in pieces]))
