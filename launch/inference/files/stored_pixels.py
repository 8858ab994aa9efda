"""Restored pixels -> the numbers that their file stores: its layout, inversion, rescaling, depth, palette, opacity."""

import numpy as np

from quell.shards.image_files.image import StoredImage

SMALL_DEPTHS = {1: 255, 2: 85, 4: 17}
"""Bits of a small grey image -> the factor by which reading multiplies it."""


def to_file(image: StoredImage, pixels: np.ndarray) -> np.ndarray:
    """The array that the file of an image stores for other pixels.

    Args:
        image: What was read.
        pixels: In the shape and the units of `image.pixels`.

    Returns:
        An array in the layout and the dtype of the file, with the opacity of the image as last channel.
    """
    values = image.values.to_stored(pixels)
    dtype = np.dtype(image.values.stored_dtype)
    if dtype.kind in "iu":
        low, high = _limits(image, dtype)
        stored = np.clip(np.rint(values), low, high).astype(dtype)
    elif dtype.kind == "b":
        stored = values >= SMALL_DEPTHS[1] / 2
    else:
        stored = values.real.astype(dtype) if dtype.kind == "f" else values.astype(dtype)
    return image.to_file_layout(stored)


def _limits(image: StoredImage, dtype: np.dtype) -> tuple[int, int]:
    """The smallest and the largest number that the file can hold."""
    limits = np.iinfo(dtype)
    bits = image.values.bits_stored
    if image.format != "dicom" or bits is None or bits >= 8 * dtype.itemsize:
        return int(limits.min), int(limits.max)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dtype.kind == "i" else (0, 2**bits - 1)
