"""Underwater image quality without a clean image, from colourfulness, sharpness and contrast."""

import math

import numpy as np
import scipy
from numpy.typing import NDArray

from quell.configs.errors import DataError
from quell.losses.metrics.common.images import Image, check_rgb, checked_image, checked_range, is_finite

WEIGHTS = (0.0282, 0.2953, 3.5753)
"""Of colourfulness, sharpness and contrast."""
LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in sharpness."""
TRIM = 0.1
"""Share of the lowest, and of the highest, values that the means of colourfulness leave out."""
BLOCK_PX = 10
SMALLEST_PX = BLOCK_PX


def uiqm(restored: NDArray[np.generic], clean: NDArray[np.generic] | None = None, *, data_range: float) -> float:
    """0.0282 UICM + 0.2953 UISM + 3.5753 UIConM of an RGB image; larger is better.

    - UICM (colourfulness): -0.0268 |mean| + 0.1586 deviation of R - G and (R + G) / 2 - B. The means leave out the
      lowest and highest tenth; the deviations are about these means.
    - UISM (sharpness): per channel, times its luminance weight, the mean over blocks of 10 px of 2 log(max / min) of
      the Sobel magnitude (scaled to a maximum of 255) times the channel.
    - UIConM (contrast): the mean over blocks of -c log c, where c = (max - min) / (max + min) over all three channels.

    Blocks where a logarithm is not defined count as 0.

    Published scripts differ in the size of blocks (8 or 10 px) and the weight of blue (a common one has 0.144), and
    leave out, as here, the logarithmic arithmetic that the paper asks for in UIConM; so compare only values computed by
    the same one. The metric rewards saturated colours and noise and says nothing about fidelity. UIConM is largest for
    blocks of contrast c = 1/e: an image washed out to this contrast scores higher than a vivid one.

    Args:
        restored: RGB image (H, W, 3), at least 10 px a side.
        clean: Not used.
        data_range: Difference between the largest and the smallest value that images can have. The image is scaled
            from [0, data_range] to [0, 255] and clipped.

    Returns:
        The quality, without fixed bounds; -inf for an image that is not finite.

    Raises:
        DataError: The image is not RGB or is too small, or `data_range` is not positive.

    Source:
        Panetta, Gao and Agaian, Human-Visual-System-Inspired Underwater Image Quality Measures, IEEE JOE 41(3), 2016.
    """
    image = checked_image(restored)
    check_rgb(image, "UIQM")
    if min(image.shape[:2]) < BLOCK_PX:
        raise DataError(f"UIQM needs images of at least {BLOCK_PX} px a side, got shape {image.shape}")
    if not is_finite(image):
        return -math.inf
    image = np.clip(image * (255 / checked_range(data_range)), 0, 255)
    parts = (colourfulness(image), sharpness(image), contrast(image))
    return sum(weight * part for weight, part in zip(WEIGHTS, parts, strict=True))


def colourfulness(image: Image) -> float:
    """UICM of an RGB image (H, W, 3) in [0, 255]."""
    red, green, blue = np.moveaxis(image, 2, 0)
    means, variances = [], []
    for opponent in (red - green, (red + green) / 2 - blue):
        cut = math.ceil(TRIM * opponent.size)
        means.append(float(np.sort(opponent, axis=None)[cut : opponent.size - cut].mean()))
        variances.append(float(np.mean((opponent - means[-1]) ** 2)))
    return -0.0268 * math.hypot(*means) + 0.1586 * math.sqrt(sum(variances))


def sharpness(image: Image) -> float:
    """UISM of an RGB image (H, W, 3) in [0, 255]."""
    total = 0.0
    for c, weight in enumerate(LUMINANCE):
        channel = image[..., c]
        strength = np.hypot(scipy.ndimage.sobel(channel, axis=0), scipy.ndimage.sobel(channel, axis=1))
        edges = channel * strength * (255 / max(float(strength.max()), 1e-12))
        low, high = _extremes(edges[..., None])
        defined = low > 0
        total += weight * 2 * float(np.sum(np.log(high[defined] / low[defined]))) / low.size
    return total


def contrast(image: Image) -> float:
    """UIConM of an RGB image (H, W, 3) in [0, 255]."""
    low, high = _extremes(image)
    defined = high > low
    ratio = (high - low)[defined] / (high + low)[defined]
    return -float(np.sum(ratio * np.log(ratio))) / low.size


def _extremes(image: Image) -> tuple[Image, Image]:
    """Smallest and largest value of each complete block; the rest of the image is left out."""
    rows, columns = (size // BLOCK_PX for size in image.shape[:2])
    complete = image[: rows * BLOCK_PX, : columns * BLOCK_PX]
    blocks = complete.reshape(rows, BLOCK_PX, columns, BLOCK_PX, -1)
    return blocks.min(axis=(1, 3, 4)), blocks.max(axis=(1, 3, 4))
