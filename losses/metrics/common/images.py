"""What every metric asks of its images, and the checks that say so."""

import numpy as np
from numpy.typing import NDArray

from configs.errors import DataError

Image = NDArray[np.float64]


def checked(image: NDArray[np.generic], name: str = "restored") -> Image:
    """The image in float64, (H, W) or (H, W, C). DataError for complex numbers or another number of dimensions."""
    if np.iscomplexobj(image):
        raise DataError(f"the {name} image is complex; metrics are of real images, give its magnitude")
    if image.ndim not in (2, 3):
        raise DataError(f"the {name} image has shape {image.shape}; metrics take (height, width) or (height, width, C)")
    return np.asarray(image, dtype=np.float64)


def checked_pair(restored: NDArray[np.generic], clean: NDArray[np.generic] | None) -> tuple[Image, Image]:
    """Both images in float64. DataError when there is no clean image or the shapes differ."""
    if clean is None:
        raise DataError("this metric compares with a clean image, and there is none")
    if restored.shape != clean.shape:
        raise DataError(f"the restored image has shape {restored.shape} but the clean one {clean.shape}")
    return checked(restored), checked(clean, "clean")


def finite(image: Image) -> bool:
    """Whether all values are numbers. A diverged network's image must score worst: NaN would be left out of means."""
    return bool(np.isfinite(image).all())


def checked_range(data_range: float) -> float:
    """The data range. DataError unless it is a positive number."""
    if not np.isfinite(data_range) or data_range <= 0:
        raise DataError(
            f"data_range is {data_range}; give the difference between the largest and smallest value allowed"
        )
    return float(data_range)


def needs_colour(image: Image, metric: str) -> None:
    """DataError unless the image has three channels."""
    if image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"{metric} is of RGB images (height, width, 3), but this one has shape {image.shape}")
