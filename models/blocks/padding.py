"""Any height and width for networks that halve their images: pad by reflection, run, crop back."""

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import torch
from torch import Tensor

from quell.configs.export_mode.flag import is_exporting
from quell.models.blocks.axis_maps import extend_by_reflection, first_elements, reflect_to

Network = TypeVar("Network")
Forward = Callable[[Network, Tensor], Tensor]


def pad_to_multiple(image_NCHW: Tensor, multiple: int) -> Tensor:
    """Pad an image by reflection, at the bottom and on the right, until both sides are multiples of `multiple`.

    The border pixels themselves are not repeated (0 1 2 becomes 0 1 2 1). `functional.pad` refuses a reflection wider
    than the image; this one reflects to and fro, so that an image of one pixel works too.

    Args:
        image_NCHW: Real or complex image (N, C, H, W), or any tensor whose last two dimensions are H and W.
        multiple: What height and width must be divisible by.

    Returns:
        The padded image, or the same tensor if it already fits.
    """
    # rounded up; not by dividing negative numbers, which ONNX rounds the other way
    height, width = ((size + multiple - 1) // multiple * multiple for size in image_NCHW.shape[-2:])
    if is_exporting():
        return reflect_to(image_NCHW, height, width) if multiple > 1 else image_NCHW
    if (height, width) == tuple(image_NCHW.shape[-2:]):
        return image_NCHW
    return extend_by_reflection(image_NCHW, height, width)


def crop_to(image_NCHW: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Crop an image to its top left `size` (height, width) pixels, which undoes `pad_to_multiple`."""
    height, width = size
    if is_exporting():
        return first_elements(image_NCHW, height, width)
    assert image_NCHW.shape[-2] >= height and image_NCHW.shape[-1] >= width, (image_NCHW.shape, size)
    return image_NCHW[..., :height, :width]


def padded(multiple: int) -> Callable[[Forward[Network]], Forward[Network]]:
    """Decorate a `forward(self, image_NCHW)` that needs sides divisible by `multiple` to accept any size.

    The decorated method pads its input, and crops its output to the size of the original image.
    """

    def decorate(forward: Forward[Network]) -> Forward[Network]:
        @wraps(forward)
        def wrapped(self: Network, image_NCHW: Tensor) -> Tensor:
            return crop_to(forward(self, pad_to_multiple(image_NCHW, multiple)), image_NCHW.shape[-2:])

        return wrapped

    return decorate
