"""Bilinear resizing of a few channels whose gradient is deterministic on GPUs."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional


def resized(image_NCHW: Tensor, size_px: int) -> Tensor:
    """Resize images bilinearly to `size_px` a side, as `functional.interpolate` does by default.

    On CPU, and wherever deterministic algorithms are not asked for, torch does it. Its gradient on GPUs is not
    deterministic, and taken apart into sums over sorted indices where it has to be, many times slower. There the images
    are multiplied by two matrices, in float32: with three channels that costs next to nothing.
    """
    if image_NCHW.device.type == "cpu" or not torch.are_deterministic_algorithms_enabled():
        return functional.interpolate(image_NCHW, size=(size_px, size_px), mode="bilinear")
    return by_matrices(image_NCHW, size_px)


def by_matrices(image_NCHW: Tensor, size_px: int) -> Tensor:
    """The same by a product with one matrix for the rows and one for the columns."""
    rows, columns = (interpolation(size, size_px, image_NCHW.device) for size in image_NCHW.shape[-2:])
    with torch.autocast(image_NCHW.device.type, enabled=False):
        return (rows @ image_NCHW.to(rows.dtype) @ columns.T).to(image_NCHW.dtype)


@lru_cache(maxsize=64)
def interpolation(size: int, wanted: int, device: torch.device) -> Tensor:
    """The matrix (wanted, size) that resizes an axis: pixels are areas, whose centres are interpolated between."""
    with torch.inference_mode(False), torch.no_grad():
        axis = torch.eye(size)[None]
        matrix = functional.interpolate(axis, size=wanted, mode="linear")[0].T.contiguous()
        return matrix.to(device)
