"""Underwater colour image quality without a clean image, from spread of chroma, contrast and saturation."""

import math

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2lab

from quell.losses.metrics.common.images import check_rgb, checked_image, checked_range, is_finite

WEIGHTS = (0.4680, 0.2745, 0.2576)
"""Of chroma spread, lightness contrast and saturation."""


def uciqe(restored: NDArray[np.generic], clean: NDArray[np.generic] | None = None, *, data_range: float) -> float:
    """0.4680 s_c + 0.2745 con_l + 0.2576 m_s of an sRGB image; larger is better.

    In CIELab (D65) divided by 100: s_c is the standard deviation of the chroma sqrt(a**2 + b**2), con_l the difference
    of the 99th and the 1st percentile of the lightness L, m_s the mean of the saturation chroma / sqrt(chroma**2 +
    L**2), which is 0 for black.

    Published scripts differ in the scale of Lab (8-bit Lab over 255, unscaled) and in s_c and m_s, so compare only
    values computed by the same one. The metric rewards saturated colours and says nothing about fidelity.

    Args:
        restored: RGB image (H, W, 3).
        clean: Not used.
        data_range: Difference between the largest and the smallest value that images can have. The image is scaled
            from [0, data_range] to [0, 1] and clipped.

    Returns:
        The quality, about 0 to 1; -inf for an image that is not finite.

    Raises:
        DataError: The image is not RGB, or `data_range` is not positive.

    Source:
        Yang and Sowmya, An Underwater Color Image Quality Evaluation Metric, IEEE TIP 24(12), 2015.
    """
    image = checked_image(restored)
    check_rgb(image, "UCIQE")
    if not is_finite(image):
        return -math.inf
    lab = rgb2lab(np.clip(image / checked_range(data_range), 0, 1)) / 100
    lightness, chroma = lab[..., 0], np.hypot(lab[..., 1], lab[..., 2])
    length = np.hypot(chroma, lightness)
    saturation = np.divide(chroma, length, out=np.zeros_like(chroma), where=length > 0)
    low, high = np.percentile(lightness, (1, 99))
    parts = (chroma.std(), high - low, saturation.mean())
    return float(sum(weight * part for weight, part in zip(WEIGHTS, parts, strict=True)))
