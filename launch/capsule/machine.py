"""The machine and the libraries that compute, as far as they can change the last bits of a result."""

import os
import platform
import socket
from pathlib import Path

import torch

from quell.configs.support.json_files import Record
from quell.launch.machine import devices
from quell.launch.machine.threads import own_cores

_DRIVER = Path("/sys/module/nvidia/version")


def describe(device: torch.device) -> Record:
    """Host, system, processor, memory, devices and versions; what is not known is null.

    Args:
        device: That of this process; of its kind, all devices that the process sees are listed.
    """
    return {
        "host": socket.gethostname(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cpu": devices.name(torch.device("cpu")),
        "cpu_instructions": getattr(torch.backends.cpu, "get_cpu_capability", lambda: None)(),
        "cores": os.cpu_count(),
        "cores_of_process": len(own_cores().numbers),
        "memory_gib": _gib(devices.total_bytes(torch.device("cpu"))),
        "devices": [] if device.type == "cpu" else _devices(device.type),
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "rocm": torch.version.hip,
        "cudnn": torch.backends.cudnn.version() if torch.version.cuda else None,
    }


def _devices(kind: str) -> list[Record]:
    count = getattr(getattr(torch, kind), "device_count", lambda: 1)()
    every = [torch.device(kind, index) for index in range(count)]
    return [{"name": devices.name(device), "memory_gib": _gib(devices.total_bytes(device))} for device in every]


def _driver() -> str | None:
    """Version of the NVIDIA driver, where Linux has loaded one."""
    try:
        return _DRIVER.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _gib(count: int | None) -> float | None:
    return None if count is None else round(count / 2**30, 2)
