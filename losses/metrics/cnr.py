"""Contrast-to-noise ratio."""

import math

import numpy as np
from numpy.typing import NDArray

from quell.losses.metrics.common.images import checked_image, is_finite
from quell.losses.metrics.common.rois import Rois, given_or_found, to_grey


def cnr(
    restored: NDArray[np.generic],
    clean: NDArray[np.generic] | None = None,
    *,
    data_range: float,
    rois: Rois | None = None,
) -> float:
    """10 log10(|m_f - m_b| / sqrt((s_f**2 + s_b**2) / 2)) in dB, averaged over foreground regions; larger is better.

    m and s are mean and standard deviation of a foreground region, and of all background regions together.

    Args:
        restored: Image (H, W) or (H, W, C), whose channels are averaged.
        clean: Image to find the regions in if `rois` is None.
        data_range: Not used; the ratio does not depend on it.
        rois: Regions to look at.

    Returns:
        The ratio in (-inf, inf); inf for regions without noise, -inf for regions without contrast and for a restored
        image that is not finite.

    Raises:
        DataError: The regions do not fit the image, or there are none to find.

    Source:
        The usual definition in the literature on OCT speckle reduction.
    """
    image, rois = to_grey(checked_image(restored)), given_or_found(restored, clean, rois)
    if not is_finite(image):
        return -math.inf
    background = np.concatenate([box.of(image).ravel() for box in rois.background])
    return float(np.mean([_ratio_db(box.of(image), background) for box in rois.foreground]))


def _ratio_db(foreground: NDArray[np.float64], background: NDArray[np.float64]) -> float:
    contrast = abs(float(foreground.mean() - background.mean()))
    noise = math.sqrt((float(foreground.var()) + float(background.var())) / 2)
    if noise == 0 or contrast == 0:
        return math.inf if noise == 0 else -math.inf
    return 10 * math.log10(contrast / noise)
