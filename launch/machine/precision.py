"""The precision of a run: which autocast type its device supports, and the context that applies it."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from quell.configs.errors import ConfigError
from quell.configs.schema import LoopConfig
from quell.launch.machine import devices
from quell.launch.machine.agreement import on_all
from quell.launch.machine.arithmetic import full_float32

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
COARSENESS = ("bf16", "fp16", "no")
"""What ranks on different devices agree on is the last of their choices in this order, which all of them support."""


class Precision(NamedTuple):
    """The autocast type of a run."""

    name: str
    """As accelerate names it: no, bf16 or fp16."""
    reason: str
    """Why it was chosen, as a clause."""


def choose(
    loop: LoopConfig,
    device: torch.device,
    *,
    complex_numbers: bool = False,
    scales_loss: bool = True,
    began_with: str | None = None,
) -> Precision:
    """The autocast type of a run on this device.

    An explicit `loop.precision` is taken or refused. `auto` continues with what the run began with, or takes what
    `accelerate launch` was asked for; else it is bf16 on a GPU that multiplies it in hardware, and fp16 on other GPUs
    of NVIDIA and AMD, either only when a probe computes correctly in it. On CPU it is no, whatever the processor, so
    that results do not depend on it; so it is on Apple GPUs, where nothing was tested.

    Args:
        loop: Its `precision` is what the user asked for.
        device: Where the run trains; it is used.
        complex_numbers: Networks compute in complex64, which has no autocast type.
        scales_loss: Whether the launch target scales the loss, without which fp16 underflows.
        began_with: What the run began with, where it is resumed.

    Raises:
        ConfigError: The device does not support what was asked for.
    """
    if complex_numbers:
        return Precision("no", "complex networks have no other")
    if loop.precision != "auto":
        _refuse(loop.precision, device, "loop.precision")
        return Precision(loop.precision, "loop.precision")
    if began_with is not None and (began_with != "fp16" or scales_loss) and multiplies(device, began_with):
        return Precision(began_with, "auto: as the run began")
    if asked := _asked_of_accelerate():
        _refuse(asked, device, "accelerate launch --mixed_precision")
        if asked == "fp16" and not scales_loss:
            raise ConfigError(
                "accelerate launch --mixed_precision fp16 would need DeepSpeed's own loss scaler; use bf16"
            )
        return Precision(asked, "auto: asked of accelerate launch")
    changed = f"; the run began with {began_with}, which it does not compute" if began_with else ""
    name, reason = _fastest(device, scales_loss)
    return Precision(name, f"auto: {reason}{changed}")


def choose_together(loop: LoopConfig, device: torch.device, world: int, **settings: Any) -> Precision:
    """The precision that the device of every rank supports. Collective.

    Args:
        loop: As for `choose`.
        device: This rank's.
        world: World size.
        settings: Further arguments of `choose`.

    Raises:
        ConfigError: On every rank, where the device of any of them does not support what was asked for.
    """
    choices: list[Precision] = []
    on_all(lambda: choices.append(choose(loop, device, **settings)), world)
    own = choices[0]
    if world == 1:
        return own
    names: list[str] = [own.name] * world
    dist.all_gather_object(names, own.name)
    common = max(names, key=COARSENESS.index)
    return own if common == own.name else Precision(common, f"{own.reason}, but other ranks' devices do not support it")


def multiplies(device: torch.device, name: str) -> bool:
    """Whether a device multiplies in a precision in hardware, and correctly."""
    if name == "no":
        return True
    if device.type == "cpu":
        return name == "bf16" and multiplies_bf16()
    return not (name == "bf16" and _emulates_bf16(device)) and computes(device, DTYPES[name])


def multiplies_bf16() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware (AMX); others are far slower than in float32."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16", False))


def computes(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a convolution and its gradient run on this device in this type, and give correct results."""
    generator = torch.Generator().manual_seed(0)
    images = (torch.randn(size, generator=generator) for size in ((1, 8, 16, 16), (8, 8, 3, 3)))
    try:
        with full_float32():
            image, weight = (tensor.to(device) for tensor in images)
            low = weight.to(dtype).requires_grad_()
            out = torch.nn.functional.conv2d(image.to(dtype), low)
            (gradient,) = torch.autograd.grad(out.float().square().mean(), low)
            expected = torch.nn.functional.conv2d(image, weight)
    except RuntimeError:
        return False
    return bool(gradient.isfinite().all()) and bool((out.float() - expected).abs().max() < 0.1 * expected.abs().max())


def autocast(device: torch.device, name: str) -> Callable[[], AbstractContextManager[object]]:
    """A factory of contexts in which operations run in a precision (no, bf16, fp16); weights stay float32."""
    dtype = DTYPES.get(name)
    return nullcontext if dtype is None else lambda: torch.autocast(device.type, dtype)


def _fastest(device: torch.device, scales_loss: bool) -> tuple[str, str]:
    """The precision that `auto` takes on a device, and why."""
    if device.type == "cpu":
        return "no", "on CPUs, so that results are the same on all of them"
    if device.type == "mps":
        return "no", "untested in others on Apple GPUs"
    if multiplies(device, "bf16"):
        return "bf16", "this device multiplies it in hardware"
    if scales_loss and device.type == "cuda" and multiplies(device, "fp16"):
        return "fp16", "this device does not multiply bf16 in hardware"
    return "no", "this device computes no other"


def _refuse(name: str, device: torch.device, source: str) -> None:
    """ConfigError unless the device supports a precision that was asked for."""
    if name == "fp16" and device.type == "cpu":
        raise ConfigError(f"{source} fp16 needs a GPU; on CPU use bf16 or no")
    if name == "bf16" and _emulates_bf16(device):
        raise ConfigError(f"{source} bf16 is emulated by {devices.describe(device)}, slowly; use fp16 or auto")
    if name != "no" and device.type != "cpu" and not computes(device, DTYPES[name]):
        raise ConfigError(f"{source} {name} is not supported by {devices.describe(device)}; use auto or no")


def _emulates_bf16(device: torch.device) -> bool:
    """Whether this GPU has bfloat16 only in software, which torch counts as support."""
    supported = getattr(devices.module_of(device), "is_bf16_supported", None) if device.type != "cpu" else None
    return supported is not None and not supported(including_emulation=False)


def _asked_of_accelerate() -> str | None:
    """What `accelerate launch --mixed_precision` or its configuration file asks for; None where that is nothing.

    Its `no` is what it says when it was not asked.
    """
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if asked not in ("no", *DTYPES):
        raise ConfigError(f"accelerate launch --mixed_precision {asked} is not offered; use bf16 or fp16")
    return None if asked == "no" else asked
