"""Contrast-to-noise ratio."""

import math

import numpy as np
from numpy.typing import NDArray

from losses.metrics.common.images import checked, finite
from losses.metrics.common.rois import Rois, grey, regions


def cnr(
    restored: NDArray[np.generic],
    clean: NDArray[np.generic] | None = None,
    *,
    data_range: float,
    rois: Rois | None = None,
) -> float:
    """10 log10(|m_f - m_b| / sqrt((s_f**2 + s_b**2) / 2)) in dB, mean over foreground regions, larger is better; -inf
    for an image that is not finite.

    m and s: mean and standard deviation of a foreground region and of all background regions together. The regions are
    `rois`, else found in the clean image; `data_range` plays no part. Colours are averaged first.
    """
    image, rois = grey(checked(restored)), regions(restored, clean, rois)
    if not finite(image):
        return -math.inf
    background = np.concatenate([box.of(image).ravel() for box in rois.background])
    return float(np.mean([_ratio_db(box.of(image), background) for box in rois.foreground]))


def _ratio_db(foreground: NDArray[np.float64], background: NDArray[np.float64]) -> float:
    contrast = abs(float(foreground.mean() - background.mean()))
    noise = math.sqrt((float(foreground.var()) + float(background.var())) / 2)
    if noise == 0 or contrast == 0:
        return math.inf if noise == 0 else -math.inf
    return 10 * math.log10(contrast / noise)
