"""Where weights and freed memory lie: device, NHWC order, and glibc's allocator."""

import ctypes
import platform

import torch
from torch import nn

from quell.configs.schema import LoopConfig

NARROW = 32
"""Channels from which, on CPU, the weight gradient of a convolution is slower in channels-last order."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's mallopt, in bytes."""


def place(network: nn.Module, device: torch.device, loop: LoopConfig) -> None:
    """Move a network to a device; with channels_last its weights become NHWC, and its activations follow them."""
    network.to(device)
    if takes_channels_last(network, device, loop):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def takes_channels_last(network: nn.Module, device: torch.device, loop: LoopConfig) -> bool:
    """Whether `loop.channels_last` applies to this network on this device.

    Complex weights stay NCHW: torch convolves their real and imaginary parts separately.
    """
    if any(parameter.is_complex() for parameter in network.parameters()):
        return False
    if loop.channels_last != "auto":
        return loop.channels_last
    return is_narrow(network) if device.type == "cpu" else device.type != "mps"  # where nothing was tested


def is_narrow(network: nn.Module) -> bool:
    """Whether some convolution has fewer than 32 channels on both sides, as where images are largest.

    On CPU, oneDNN takes up to half as long again for the weight gradient of a wider one in channels-last order (29
    against 44 GFLOP/s for 32 channels, AVX2), and batch norms lose as well; narrower ones gain in all their passes.
    """
    return any(
        max(module.in_channels, module.out_channels) < NARROW
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    )


def keep_freed_memory() -> None:
    """Have glibc keep what a step frees for the next step, instead of returning it to the kernel.

    Otherwise large tensors are mapped, and zeroed page by page, at every step.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        for option, value in ((_M_MMAP_THRESHOLD, 2**30), (_M_TRIM_THRESHOLD, 2**31 - 1)):
            library.mallopt(option, value)
