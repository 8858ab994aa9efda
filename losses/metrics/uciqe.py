"""Underwater colour image quality without a clean image: chroma spread, lightness contrast, saturation."""

import math

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2lab

from losses.metrics.common.images import checked, checked_range, finite, needs_colour

WEIGHTS = (0.4680, 0.2745, 0.2576)


def uciqe(restored: NDArray[np.generic], clean: NDArray[np.generic] | None = None, *, data_range: float) -> float:
    """0.4680 s_c + 0.2745 con_l + 0.2576 m_s of an sRGB image, larger is better; `clean` plays no part.

    In CIELab (D65) over 100: s_c the standard deviation of the chroma sqrt(a**2 + b**2), con_l the 99th less the 1st
    percentile of the lightness L, m_s the mean saturation chroma / sqrt(chroma**2 + L**2), 0 for black. The image is
    scaled to [0, 1] and clipped. -inf for an image that is not finite.

    Published scripts differ in the scale of Lab (8-bit Lab over 255, unscaled) and in s_c and m_s: compare only numbers
    made by one. It rewards saturated colours and says nothing of likeness.
    Source: Yang and Sowmya, IEEE TIP 24(12), 2015.
    """
    image = checked(restored)
    needs_colour(image, "UCIQE")
    if not finite(image):
        return -math.inf
    lab = rgb2lab(np.clip(image / checked_range(data_range), 0, 1)) / 100
    lightness, chroma = lab[..., 0], np.hypot(lab[..., 1], lab[..., 2])
    length = np.hypot(chroma, lightness)
    saturation = np.divide(chroma, length, out=np.zeros_like(chroma), where=length > 0)
    low, high = np.percentile(lightness, (1, 99))
    parts = (chroma.std(), high - low, saturation.mean())
    return float(sum(weight * part for weight, part in zip(WEIGHTS, parts, strict=True)))
