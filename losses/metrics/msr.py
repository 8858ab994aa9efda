"""Mean-to-standard-deviation ratio."""

import math

import numpy as np
from numpy.typing import NDArray

from losses.metrics.common.images import checked, finite
from losses.metrics.common.rois import Rois, grey, regions


def msr(
    restored: NDArray[np.generic],
    clean: NDArray[np.generic] | None = None,
    *,
    data_range: float,
    rois: Rois | None = None,
) -> float:
    """Mean / standard deviation of foreground regions, mean over regions, larger is smoother; inf for a constant one,
    0 for an image that is not finite.

    The regions are `rois`, else found in the clean image; `data_range` plays no part. Colours are averaged first.
    """
    image, rois = grey(checked(restored)), regions(restored, clean, rois)
    if not finite(image):
        return 0.0
    pieces = [box.of(image) for box in rois.foreground]
    return float(np.mean([float(p.mean()) / float(p.std()) if p.std() > 0 else math.inf for p in pieces]))
