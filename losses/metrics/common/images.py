"""What every metric requires of its images, checked."""

import numpy as np
from numpy.typing import NDArray

from quell.configs.errors import DataError

Image = NDArray[np.float64]
"""(H, W) or (H, W, C)."""


def checked_image(image: NDArray[np.generic], name: str = "restored") -> Image:
    """The image in float64.

    Args:
        image: Real image (H, W) or (H, W, C) of any dtype.
        name: What to call it in an error message.

    Raises:
        DataError: The image is complex, or has another number of dimensions.
    """
    if np.iscomplexobj(image):
        raise DataError(f"the {name} image is complex, but metrics compare real images: pass its magnitude")
    if image.ndim not in (2, 3):
        raise DataError(f"the {name} image must be (H, W) or (H, W, C), got shape {image.shape}")
    return np.asarray(image, dtype=np.float64)


def checked_pair(restored: NDArray[np.generic], clean: NDArray[np.generic] | None) -> tuple[Image, Image]:
    """Both images in float64.

    Raises:
        DataError: There is no clean image, the shapes differ, or an image is not one that metrics accept.
    """
    if clean is None:
        raise DataError("this metric compares with a clean image, but there is no clean image")
    if restored.shape != clean.shape:
        raise DataError(f"restored and clean image must have the same shape, got {restored.shape} and {clean.shape}")
    return checked_image(restored), checked_image(clean, "clean")


def is_finite(image: Image) -> bool:
    """Whether all values are finite.

    A metric gives the worst score to an image that is not: a diverged network must not be left out of means as NaN.
    """
    return bool(np.isfinite(image).all())


def checked_range(data_range: float) -> float:
    """The data range: the difference between the largest and the smallest value that images can have.

    Raises:
        DataError: It is not a positive, finite number.
    """
    if not np.isfinite(data_range) or data_range <= 0:
        raise DataError(
            f"data_range must be > 0, got {data_range}: give the difference between the largest and the smallest value "
            "that images can have"
        )
    return float(data_range)


def check_rgb(image: Image, metric: str) -> None:
    """Check that the image has three channels.

    Raises:
        DataError: It has not.
    """
    if image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"{metric} needs an RGB image (H, W, 3), got shape {image.shape}")
