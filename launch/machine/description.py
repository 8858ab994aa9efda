"""One sentence on what a run computes with: world, device, precision, TF32, determinism, order in memory."""

import torch

from quell.configs.schema import LoopConfig
from quell.launch.machine import devices
from quell.launch.machine.precision import Precision

TF32_DEVICES = ("cuda", "xpu")


def describe(
    loop: LoopConfig, device: torch.device, world: int, precision: Precision, *, tf32: bool, channels_last: bool
) -> str:
    """The first line of a run's log, for the rank on this device."""
    parts = [
        f"training with {world} process{'es' if world > 1 else ''} on {devices.describe(device)}",
        f"precision {precision.name} ({precision.reason})",
    ]
    if device.type in TF32_DEVICES:
        parts.append(f"TF32 {'on' if tf32 else 'off'}")
    parts.append("deterministic" if loop.deterministic else "fastest algorithms, not deterministic")
    parts.append("channels last" if channels_last else "NCHW")
    return ", ".join(parts)
