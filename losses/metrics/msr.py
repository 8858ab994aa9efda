"""Mean-to-standard-deviation ratio."""

import math

import numpy as np
from numpy.typing import NDArray

from quell.losses.metrics.common.images import checked_image, is_finite
from quell.losses.metrics.common.rois import Rois, given_or_found, to_grey


def msr(
    restored: NDArray[np.generic],
    clean: NDArray[np.generic] | None = None,
    *,
    data_range: float,
    rois: Rois | None = None,
) -> float:
    """Mean / standard deviation of foreground regions, averaged over regions; larger is smoother.

    Args:
        restored: Image (H, W) or (H, W, C), whose channels are averaged.
        clean: Image to find the regions in if `rois` is None.
        data_range: Not used; the ratio does not depend on it.
        rois: Regions to look at.

    Returns:
        The ratio, at least 0 for images that are not negative; inf for a constant region, 0 for a restored image that
        is not finite.

    Raises:
        DataError: The regions do not fit the image, or there are none to find.

    Source:
        The usual definition in the literature on OCT speckle reduction.
    """
    image, rois = to_grey(checked_image(restored)), given_or_found(restored, clean, rois)
    if not is_finite(image):
        return 0.0
    pieces = [box.of(image) for box in rois.foreground]
    return float(np.mean([float(p.mean()) / float(p.std()) if p.std() > 0 else math.inf for p in pieces]))
