"""Layers that take real or complex64 tensors: normalisation, activation and pooling act on both parts alike."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from models.blocks.norms import GroupNorm


class LayerNorm2d(GroupNorm):
    """Group normalisation with one group over (C, H, W) of each sample.

    A complex tensor has its real and imaginary parts normalised separately, with the same real affine parameters.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The normalised tensor, real and imaginary parts each on their own."""
        return on_parts(super().forward, x_NCHW)


def on_parts(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A real function applied to a real tensor, or to the real and the imaginary part of a complex one."""
    return torch.complex(function(x.real), function(x.imag)) if x.is_complex() else function(x)


def relu(x: Tensor) -> Tensor:
    """max(0, x), of both parts where complex."""
    return on_parts(functional.relu, x)


def max_pool2(x_NCHW: Tensor) -> Tensor:
    """2x2 maximum; the parts of a complex tensor are pooled independently of each other."""
    return on_parts(lambda part: functional.max_pool2d(part, 2), x_NCHW)


def to_channels(x_NCHW: Tensor) -> Tensor:
    """A complex tensor as a real one of twice the channels (all real parts, then all imaginary parts)."""
    return torch.cat([x_NCHW.real, x_NCHW.imag], dim=1) if x_NCHW.is_complex() else x_NCHW


def from_channels(x_NCHW: Tensor) -> Tensor:
    """The complex tensor that `to_channels` laid out as channels."""
    real, imag = x_NCHW.chunk(2, dim=1)
    return torch.complex(real.contiguous(), imag.contiguous())


def weight_dtype(complex: bool) -> torch.dtype | None:
    """What convolution weights are made of: complex64, or torch's default."""
    return torch.complex64 if complex else None
