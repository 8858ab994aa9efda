"""Reflection padding and bilinear upsampling whose gradients are deterministic on GPUs, and fast.

torch's own gradients of both add into shared memory in any order. With deterministic algorithms torch instead takes
upsampling apart into sums over sorted indices, many times slower, and has nothing for reflection padding. Both are
linear maps along one axis with few terms for each element, and so are their transposes, which the gradients apply. Here
both directions gather: every element sums its own terms, always in the same order.

On CPU, where torch's kernels are deterministic and faster, and wherever deterministic algorithms are not asked for,
torch's own are used.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class AxisMap(NamedTuple):
    """A linear map along an axis: every element of the result is a sum of weighted elements."""

    indices: Tensor
    """Which elements, those of the first sum first; all sums have the same number of terms."""
    weights: Tensor | None
    """Their weights, (sums, terms) float32; None where every sum is one element as it is."""


Maps = tuple[AxisMap, AxisMap]
"""A map and its transpose."""


class Gather(torch.autograd.Function):
    """Apply a map along an axis. The gradient applies its transpose, and may be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: int, there: AxisMap, back: AxisMap) -> Tensor:
        """The mapped tensor, in the type of `x`; sums are at least in float32."""
        ctx.axis, ctx.there, ctx.back = axis, there, back
        taken = x.index_select(axis, there.indices)
        if there.weights is None:
            return taken
        weights = there.weights.view(*there.weights.shape, *(1,) * (x.dim() - axis - 1))
        return (taken.unflatten(axis, there.weights.shape) * weights).sum(axis + 1).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """The transposed map of the gradient."""
        return Gather.apply(gradient, ctx.axis, ctx.back, ctx.there), None, None, None


def upsample_bilinear(x_NCHW: Tensor) -> Tensor:
    """Double height and width by bilinear interpolation, with the corners aligned."""
    if _is_torchs_own_right(x_NCHW):
        return functional.interpolate(x_NCHW, scale_factor=2, mode="bilinear", align_corners=True)
    rows, columns = (doubling(size, x_NCHW.device) for size in x_NCHW.shape[-2:])
    return gather(x_NCHW, rows, columns)


def pad_by_reflection(x_NCHW: Tensor, px: tuple[int, int, int, int]) -> Tensor:
    """Pad images by reflection, left, right, top and bottom, as `functional.pad` does.

    Raises:
        RuntimeError: A side is not larger than its padding.
    """
    (left, right, top, bottom), (height, width) = px, x_NCHW.shape[-2:]
    if _is_torchs_own_right(x_NCHW) or max(left, right) >= width or max(top, bottom) >= height:
        return functional.pad(x_NCHW, px, mode="reflect")
    rows, columns = (
        reflection(size, before, after, x_NCHW.device) if before or after else None
        for size, before, after in ((height, top, bottom), (width, left, right))
    )
    return gather(x_NCHW, rows, columns)


def extend_by_reflection(x_NCHW: Tensor, height: int, width: int) -> Tensor:
    """Extend images at the bottom and on the right, reflecting them to and fro as often as needed."""
    rows, columns = (
        reflection(size, 0, wanted - size, x_NCHW.device) if wanted > size else None
        for size, wanted in zip(x_NCHW.shape[-2:], (height, width), strict=True)
    )
    if not _is_torchs_own_right(x_NCHW):
        return gather(x_NCHW, rows, columns)
    for axis, maps in ((-2, rows), (-1, columns)):
        x_NCHW = x_NCHW.index_select(axis, maps[0].indices) if maps else x_NCHW
    return x_NCHW


def reflect_to(x_NCHW: Tensor, height: int, width: int) -> Tensor:
    """`extend_by_reflection` in operators that take sizes as they come; for exports, without a gradient."""
    for axis, wanted in ((-2, height), (-1, width)):
        size = x_NCHW.shape[axis]
        # a tensor: ONNX has no remainder by a number that depends on the image
        period = torch.full((), 2 * (size - 1), dtype=torch.int64, device=x_NCHW.device)
        position = torch.remainder(torch.arange(wanted, device=x_NCHW.device), period)
        x_NCHW = x_NCHW.index_select(axis, torch.where(position < size, position, period - position))
    return x_NCHW


def first_elements(x_NCHW: Tensor, height: int, width: int) -> Tensor:
    """The top left pixels, copied; of a view, tracing would ask how it lies in memory, and keep the answer."""
    for axis, wanted in ((-2, height), (-1, width)):
        x_NCHW = x_NCHW.index_select(axis, torch.arange(wanted, device=x_NCHW.device))
    return x_NCHW


class ReflectionPad2d(nn.ReflectionPad2d):
    """Reflection padding as `torch.nn.ReflectionPad2d`, with deterministic gradients on GPUs."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Pad images (N, C, H, W)."""
        return pad_by_reflection(x_NCHW, self.padding)


class ReflectionConv2d(nn.Conv2d):
    """A convolution of images padded by reflection, by the same number of pixels on every side."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, padding, padding_mode="reflect")
        self.padding_px = padding

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Convolve features (N, in_channels, H, W)."""
        padded = pad_by_reflection(x_NCHW, (self.padding_px,) * 4)
        return functional.conv2d(padded, self.weight, self.bias, self.stride)


def gather(x_NCHW: Tensor, rows: Maps | None, columns: Maps | None) -> Tensor:
    """Apply one map to the rows and another to the columns of images, in their order in memory."""
    channels_last = not x_NCHW.is_contiguous() and x_NCHW.is_contiguous(memory_format=torch.channels_last)
    x = x_NCHW.permute(0, 2, 3, 1) if channels_last else x_NCHW
    first = 1 if channels_last else 2
    for axis, maps in ((first, rows), (first + 1, columns)):
        if maps is not None:
            x = Gather.apply(x, axis, *maps)
    return x.permute(0, 3, 1, 2) if channels_last else x


@lru_cache(maxsize=256)
def doubling(size: int, device: torch.device) -> Maps:
    """Twice as many elements, interpolated linearly, the first and the last as they are."""
    # in float32 and in this order, as torch computes the positions
    step = np.float32(size - 1) / np.float32(2 * size - 1)
    position = step * np.arange(2 * size, dtype=np.float32)
    left = position.astype(np.int64)
    share = position - left.astype(np.float32)
    indices = np.stack([left, np.minimum(left + 1, size - 1)], axis=1)
    return _with_transpose(indices, np.stack([1 - share, share], axis=1), size, device)


@lru_cache(maxsize=256)
def reflection(size: int, before: int, after: int, device: torch.device) -> Maps:
    """`before` and `after` more elements, reflected without repeating the outermost: 1 0 1 2 1 of 0 1 2."""
    period = max(2 * (size - 1), 1)
    position = np.arange(-before, size + after) % period
    indices = np.where(position < size, position, period - position)[:, None]
    there, back = _with_transpose(indices, np.ones(indices.shape, np.float32), size, device)
    return AxisMap(there.indices, None), back


def _with_transpose(indices: np.ndarray, weights: np.ndarray, size: int, device: torch.device) -> Maps:
    """The map of these terms, (sums, terms) each, from `size` elements, and its transpose, as tables on a device."""
    terms: list[list[tuple[int, float]]] = [[] for _ in range(size)]
    for number, (row, factors) in enumerate(zip(indices.tolist(), weights.tolist(), strict=True)):
        for index, factor in zip(row, factors, strict=True):
            if factor:
                terms[index].append((number, factor))
    longest = max(map(len, terms))
    padded = np.array([own + [(0, 0.0)] * (longest - len(own)) for own in terms])
    there = _on_device(indices, weights, device)
    return there, _on_device(padded[..., 0].astype(np.int64), padded[..., 1].astype(np.float32), device)


def _on_device(indices: np.ndarray, weights: np.ndarray, device: torch.device) -> AxisMap:
    with torch.inference_mode(False):  # tables made inside could not be used for a gradient later
        return AxisMap(torch.from_numpy(indices.reshape(-1)).to(device), torch.from_numpy(weights).to(device))


def _is_torchs_own_right(x: Tensor) -> bool:
    """Whether torch's own kernels do: deterministic ones, or any."""
    return x.device.type == "cpu" or not torch.are_deterministic_algorithms_enabled()
