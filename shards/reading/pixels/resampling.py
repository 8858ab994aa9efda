"""Images in another size."""

from typing import NamedTuple

import numpy as np
from PIL import Image

Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of an image, in pixels."""


class Size(NamedTuple):
    """Height and width in pixels."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height} x {self.width}"


def resize_antialiased(image: np.ndarray, size: Size, box: Box | None = None) -> np.ndarray:
    """Resize by a bicubic filter whose width grows with the reduction, so that fine detail does not alias.

    Args:
        image: (H, W) or (H, W, C), real or complex; each channel, and real and imaginary part, on its own.
        size: Height and width of the result.
        box: Left, top, right and bottom of the part to take, in pixels, by default all of it.
    """
    if image.dtype.kind == "c":
        real, imaginary = (resize_antialiased(part, size, box) for part in (image.real, image.imag))
        return (real + 1j * imaginary).astype(image.dtype)
    planes = image[..., None] if image.ndim == 2 else image
    resized = np.stack(
        [
            np.asarray(
                Image.fromarray(np.ascontiguousarray(planes[..., channel], dtype=np.float32), mode="F").resize(
                    (size.width, size.height), Image.Resampling.BICUBIC, box=box
                )
            )
            for channel in range(planes.shape[-1])
        ],
        axis=-1,
    )
    if image.dtype.kind in "iu":
        limits = np.iinfo(image.dtype)
        resized = np.clip(np.rint(resized), limits.min, limits.max)
    return resized.reshape(*size, *image.shape[2:]).astype(image.dtype)
