"""Equivalent number of looks."""

import math

import numpy as np
from numpy.typing import NDArray

from quell.losses.metrics.common.images import checked_image, is_finite
from quell.losses.metrics.common.rois import Rois, given_or_found, to_grey


def enl(
    restored: NDArray[np.generic],
    clean: NDArray[np.generic] | None = None,
    *,
    data_range: float,
    rois: Rois | None = None,
) -> float:
    """mean**2 / variance of background regions, averaged over regions; larger is smoother.

    The number depends on the scale of the data: intensities and their logarithm score differently, and so does an
    offset. It rewards blur.

    Args:
        restored: Image (H, W) or (H, W, C), whose channels are averaged.
        clean: Image to find the regions in if `rois` is None.
        data_range: Not used; the ratio does not depend on it.
        rois: Regions to look at.

    Returns:
        The number in [0, inf]; inf for a constant region, 0 for a restored image that is not finite.

    Raises:
        DataError: The regions do not fit the image, or there are none to find.

    Source:
        The usual definition in the literature on speckle, first of radar and then of OCT.
    """
    image, rois = to_grey(checked_image(restored)), given_or_found(restored, clean, rois)
    if not is_finite(image):
        return 0.0
    pieces = [box.of(image) for box in rois.background]
    return float(np.mean([float(p.mean()) ** 2 / float(p.var()) if p.var() > 0 else math.inf for p in pieces]))
