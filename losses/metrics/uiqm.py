"""Underwater image quality without a clean image: colourfulness, sharpness, contrast."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import sobel

from configs.errors import DataError
from losses.metrics.common.images import Image, checked, checked_range, finite, needs_colour

WEIGHTS = (0.0282, 0.2953, 3.5753)
"""Of colourfulness, sharpness and contrast."""
LUMINANCE = (0.299, 0.587, 0.114)
TRIM = 0.1
BLOCK_PX = 10


def uiqm(restored: NDArray[np.generic], clean: NDArray[np.generic] | None = None, *, data_range: float) -> float:
    """0.0282 UICM + 0.2953 UISM + 3.5753 UIConM of an RGB image, larger is better; `clean` plays no part.

    The image is scaled to 0..255 and clipped. UICM: -0.0268 |mean| + 0.1586 deviation of R - G and (R + G) / 2 - B, the
    means without the lowest and highest tenth, the deviations about those means. UISM: per channel, times its
    luminance weight, the mean over 10 px blocks of 2 log(max / min) of Sobel strength (largest value 255) times
    channel. UIConM: the mean over blocks of -c log c, c = (max - min) / (max + min) over all three channels.
    Blocks where a logarithm is not defined count 0. -inf for an image that is not finite.

    Published scripts differ in the block (8 or 10 px), the blue weight (a common one has 0.144) and the logarithmic
    arithmetic that the paper asks for in UIConM, left out here as in the scripts: compare only numbers made by one.
    It rewards saturated colours and noise, says nothing of likeness, and UIConM is largest for blocks of contrast
    c = 1/e: an image washed out to that scores higher than the vivid one. Source: Panetta et al., IEEE JOE 41(3), 2016.
    """
    image = checked(restored)
    needs_colour(image, "UIQM")
    if min(image.shape[:2]) < BLOCK_PX:
        raise DataError(f"UIQM needs images of at least {BLOCK_PX} px a side, but this one has shape {image.shape}")
    if not finite(image):
        return -math.inf
    image = np.clip(image * (255 / checked_range(data_range)), 0, 255)
    parts = (colourfulness(image), sharpness(image), contrast(image))
    return sum(weight * part for weight, part in zip(WEIGHTS, parts, strict=True))


def colourfulness(image: Image) -> float:
    """UICM of an image in 0..255."""
    red, green, blue = np.moveaxis(image, 2, 0)
    means, variances = [], []
    for opponent in (red - green, (red + green) / 2 - blue):
        cut = math.ceil(TRIM * opponent.size)
        means.append(float(np.sort(opponent, axis=None)[cut : opponent.size - cut].mean()))
        variances.append(float(np.mean((opponent - means[-1]) ** 2)))
    return -0.0268 * math.hypot(*means) + 0.1586 * math.sqrt(sum(variances))


def sharpness(image: Image) -> float:
    """UISM of an image in 0..255."""
    total = 0.0
    for c, weight in enumerate(LUMINANCE):
        channel = image[..., c]
        strength = np.hypot(sobel(channel, axis=0), sobel(channel, axis=1))
        edges = channel * strength * (255 / max(float(strength.max()), 1e-12))
        low, high = _extremes(edges[..., None])
        defined = low > 0
        total += weight * 2 * float(np.sum(np.log(high[defined] / low[defined]))) / low.size
    return total


def contrast(image: Image) -> float:
    """UIConM of an image in 0..255."""
    low, high = _extremes(image)
    defined = high > low
    ratio = (high - low)[defined] / (high + low)[defined]
    return -float(np.sum(ratio * np.log(ratio))) / low.size


def _extremes(image: Image) -> tuple[Image, Image]:
    """Least and largest value of every whole block."""
    rows, columns = (size // BLOCK_PX for size in image.shape[:2])
    whole = image[: rows * BLOCK_PX, : columns * BLOCK_PX]
    blocks = whole.reshape(rows, BLOCK_PX, columns, BLOCK_PX, -1)
    return blocks.min(axis=(1, 3, 4)), blocks.max(axis=(1, 3, 4))
