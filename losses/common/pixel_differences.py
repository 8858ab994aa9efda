"""Before two images are compared: equal shapes, at least float32, and one number per complex pixel."""

import torch
from torch import Tensor

from quell.configs.errors import ConfigError


def full_precision(x: Tensor) -> Tensor:
    """The tensor in float32 if it is in half precision, which loses sums of many small numbers; otherwise unchanged."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def highest_precision(x: Tensor) -> Tensor:
    """The real tensor in float64 on CPU, and in float32 on other devices: Apple's have no float64, others are slow."""
    return x.double() if x.device.type == "cpu" else x.float()


def modulus(x_NCHW: Tensor) -> Tensor:
    """Modulus of a complex image that is laid out as real channels.

    Its gradient at zero is zero, where that of sqrt(re**2 + im**2) would be NaN.

    Args:
        x_NCHW: Real tensor (N, C, H, W) whose first C/2 channels are real parts and last C/2 imaginary parts.

    Returns:
        Moduli (N, C/2, H, W).

    Raises:
        ConfigError: C is odd.
    """
    if x_NCHW.shape[1] % 2:
        raise ConfigError(
            "the modulus needs real and imaginary channels, so an even number of channels, got "
            f"{x_NCHW.shape[1]}: set modulus=false for real images"
        )
    real, imag = full_precision(x_NCHW).chunk(2, dim=1)
    return torch.complex(real, imag).abs()


def comparable_pair(restored: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both tensors in full precision, after checking that their shapes are equal.

    torch would broadcast different shapes, which is always a mistake here and would pass unnoticed.
    """
    assert restored.shape == target.shape, (restored.shape, target.shape)
    return full_precision(restored), full_precision(target)
