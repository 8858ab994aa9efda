"""Differences that losses measure: at least float32, and one number per complex pixel."""

import torch
from torch import Tensor

from configs.errors import ConfigError


def full_precision(x: Tensor) -> Tensor:
    """The tensor in float32 when it is half precision (sums of many small squares are lost there), else itself."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def modulus(x_NCHW: Tensor) -> Tensor:
    """(N, C/2, H, W): |re + i im| where the first half of the channels are real parts, the second imaginary parts.

    Its gradient at zero is zero, where a square root of a sum of squares would give NaN.
    """
    if x_NCHW.shape[1] % 2:
        raise ConfigError(
            f"the modulus is of real and imaginary channels, an even number, but the image has {x_NCHW.shape[1]}"
        )
    real, imag = full_precision(x_NCHW).chunk(2, dim=1)
    return torch.complex(real, imag).abs()


def checked_pair(restored: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both tensors in full precision; torch would broadcast shapes that differ, which is never meant here."""
    assert restored.shape == target.shape, (restored.shape, target.shape)
    return full_precision(restored), full_precision(target)
