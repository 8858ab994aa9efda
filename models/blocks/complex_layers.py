"""Layers that take real or complex64 tensors: normalisation, activation and pooling act on the two parts alike."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from quell.models.blocks.norms import GroupNorm


class LayerNorm2d(GroupNorm):
    """Group normalisation with a single group, that is over (C, H, W) of each sample.

    The real and the imaginary part of a complex tensor are normalised separately, with the same real affine parameters.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Normalise features (N, C, H, W), each part of a complex tensor by its own mean and variance."""
        return on_parts(super().forward, x_NCHW)


def on_parts(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a real function to a real tensor, or separately to both parts of a complex one."""
    return torch.complex(function(x.real), function(x.imag)) if x.is_complex() else function(x)


def relu(x: Tensor) -> Tensor:
    """ReLU, of both parts of a complex tensor (the CReLU of Trabelsi et al., ICLR 2018)."""
    return on_parts(functional.relu, x)


def max_pool2(x_NCHW: Tensor) -> Tensor:
    """2x2 max pooling; the parts of a complex tensor are pooled independently, so they may come from two pixels."""
    return on_parts(lambda part: functional.max_pool2d(part, 2), x_NCHW)


def to_channels(x_NCHW: Tensor) -> Tensor:
    """Lay a complex tensor out as a real one of twice the channels: all real parts, then all imaginary parts."""
    return torch.cat([x_NCHW.real, x_NCHW.imag], dim=1) if x_NCHW.is_complex() else x_NCHW


def from_channels(x_NCHW: Tensor) -> Tensor:
    """Invert `to_channels`: first half of the channels as real parts, second half as imaginary parts."""
    real, imag = x_NCHW.chunk(2, dim=1)
    return torch.complex(real.contiguous(), imag.contiguous())


def weight_dtype(complex: bool) -> torch.dtype | None:
    """Dtype of a convolution's weights: complex64, or None for torch's default."""
    return torch.complex64 if complex else None
