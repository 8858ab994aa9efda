"""The arithmetic of a run: which autocast type a device supports, and the context that applies it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

from configs.errors import ConfigError
from configs.schema import LoopConfig


def autocast_type(loop: LoopConfig, *, on_cpu: bool, complex_numbers: bool = False) -> str:
    """The autocast type of a run, as accelerate names it: no, bf16 or fp16.

    `auto` is bf16 on a GPU that supports it in hardware, else fp16, either only when a probe computes correctly in it;
    on CPU it is bf16 where the processor multiplies matrices in it (AMX), else no.

    Args:
        loop: Its `precision` is what the user asked for.
        on_cpu: Whether training runs on the CPU.
        complex_numbers: Networks compute in complex64, which has no autocast type.

    Raises:
        ConfigError: The device does not support what was asked for.
    """
    if complex_numbers:
        return "no"
    wanted = loop.precision
    if wanted == "fp16" and on_cpu:
        raise ConfigError("loop.precision fp16 needs a GPU; on CPU use bf16 or no")
    if wanted == "bf16" and not on_cpu and torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        raise ConfigError("loop.precision bf16 is not supported by this GPU; use fp16 or auto")
    if wanted != "auto":
        return wanted
    if on_cpu or not torch.cuda.is_available():
        return "bf16" if on_cpu and multiplies_bf16() else "no"
    device = torch.device("cuda")
    if torch.cuda.is_bf16_supported(including_emulation=False) and computes(device, torch.bfloat16):
        return "bf16"
    return "fp16" if computes(device, torch.float16) else "no"


def multiplies_bf16() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware (AMX); others are far slower than in float32."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16", False))


def computes(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a convolution and its gradient run on this device in this type, and give correct results."""
    generator = torch.Generator().manual_seed(0)
    image, weight = (torch.randn(size, generator=generator).to(device) for size in ((1, 8, 16, 16), (8, 8, 3, 3)))
    try:
        low = weight.to(dtype).requires_grad_()
        out = torch.nn.functional.conv2d(image.to(dtype), low)
        (gradient,) = torch.autograd.grad(out.float().square().mean(), low)
    except RuntimeError:
        return False
    expected = torch.nn.functional.conv2d(image, weight)
    return bool(gradient.isfinite().all()) and bool((out.float() - expected).abs().max() < 0.1 * expected.abs().max())


def autocast(device: torch.device, name: str) -> Callable[[], AbstractContextManager[object]]:
    """A factory of contexts in which operations run in a precision (no, bf16, fp16); weights stay float32."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(name)
    return nullcontext if dtype is None else lambda: torch.autocast(device.type, dtype)
