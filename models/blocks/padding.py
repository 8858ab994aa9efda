"""Images of any height and width for networks that halve them: reflection up to a multiple, and the crop back."""

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import torch
from torch import Tensor

Network = TypeVar("Network")


def pad_to_multiple(image_NCHW: Tensor, multiple: int) -> Tensor:
    """The image grown at its bottom and right, by reflection, to the next multiple of `multiple` in both directions.

    The last row and column are not repeated. Unlike torch's reflection the border may be wider than the image, so that
    an image of one pixel works too. Any dtype, complex included; an image that already fits is returned as it is.
    """
    for dim in (-2, -1):
        size = image_NCHW.shape[dim]
        target = -(-size // multiple) * multiple
        if target != size:
            image_NCHW = image_NCHW.index_select(dim, _reflected(size, target, image_NCHW.device))
    return image_NCHW


def crop_to(image_NCHW: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """The top left `size` (height, width) pixels: undoes `pad_to_multiple`."""
    height, width = size
    assert image_NCHW.shape[-2] >= height and image_NCHW.shape[-1] >= width, (image_NCHW.shape, size)
    return image_NCHW[..., :height, :width]


def padded(multiple: int) -> Callable[[Callable[[Network, Tensor], Tensor]], Callable[[Network, Tensor], Tensor]]:
    """Decorator for a `forward(self, image_NCHW)` that needs sizes divisible by `multiple` and keeps the size."""

    def decorate(forward: Callable[[Network, Tensor], Tensor]) -> Callable[[Network, Tensor], Tensor]:
        @wraps(forward)
        def wrapped(self: Network, image_NCHW: Tensor) -> Tensor:
            return crop_to(forward(self, pad_to_multiple(image_NCHW, multiple)), image_NCHW.shape[-2:])

        return wrapped

    return decorate


def _reflected(size: int, target: int, device: torch.device) -> Tensor:
    """Source index of each of `target` pixels when `size` pixels are reflected to and fro (0 1 2 1 0 1 ...)."""
    period = max(2 * (size - 1), 1)
    position = torch.arange(target, device=device) % period
    return torch.where(position < size, position, period - position)
