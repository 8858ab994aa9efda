"""The device of this process, of any kind that torch knows: found, set before anything uses it, named, measured."""

import os
import platform
import re
import socket
import sys
from pathlib import Path
from typing import Any

import psutil
import torch

from quell.configs.errors import MachineError

PINNED = ("cuda", "xpu")
"""Kinds of devices to which copies from page-locked memory are asynchronous."""

_WANTS_GPUS = "QUELL_WANTS_GPUS"
"""Set by the launcher in jobs that asked SLURM for GPUs; slurm/node/node_faults.py knows the sentences below."""

_YES = ("1", "true", "yes", "y", "t", "on")

_NO_MPS_KERNEL = re.compile(r"operator '([\w:.]+)' is not currently (?:implemented|supported) (?:for|on) the MPS")


def default_device() -> torch.device:
    """The accelerator, or the CPU where there is none or ACCELERATE_USE_CPU asks for it. Opens no context."""
    return torch.device("cpu" if wants_cpu() else _accelerator() or "cpu")


def has_accelerator() -> bool:
    """Whether this machine has one, whether or not it is wanted."""
    return _accelerator() is not None


def wants_cpu() -> bool:
    """Whether the launcher asks for the CPU, on whatever machine this is."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in _YES


def take_device() -> torch.device:
    """Choose this rank's device by LOCAL_RANK, and make it the current one before any other opens a context.

    Where each task sees only its own GPU (as with `srun --gpus-per-task=1`), LOCAL_RANK becomes the index that the
    device has here: accelerate passes that variable to DDP and to barriers as the index of the device.

    Raises:
        MachineError: The device exists but cannot be used, or there is none for a job that asked SLURM for GPUs.
    """
    device = default_device()
    module = module_of(device)
    local_rank = os.environ.get("LOCAL_RANK")
    if device.type == "cpu":
        _refuse_cpu()
        return device
    if device.type == "mps" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise MachineError(
            "several processes cannot train on an Apple GPU, for which PyTorch has no communication: start one "
            "process, or train on the CPU with ACCELERATE_USE_CPU=true"
        )
    if local_rank is not None and hasattr(module, "set_device"):
        index = int(local_rank) % module.device_count()
        os.environ["LOCAL_RANK"] = str(index)
        device = torch.device(device.type, index)
        module.set_device(device)
    try:
        torch.zeros((), device=device)
    except RuntimeError as error:
        raise MachineError(
            f"{device} cannot be used ({str(error).splitlines()[0]}): another process may own it, or it has failed; "
            "look at its state (nvidia-smi), ask for another one, or train on the CPU with ACCELERATE_USE_CPU=true"
        ) from error
    return device


def name(device: torch.device) -> str:
    """What the maker calls the device; empty where nothing tells."""
    if device.type == "cpu":
        return _processor()
    if device.type == "mps":
        return str(getattr(torch.backends.mps, "get_name", platform.processor)())
    get_name = getattr(module_of(device), "get_device_name", None)
    return str(get_name(device)) if get_name else ""


def describe(device: torch.device) -> str:
    """The device with its name, such as `cuda:0 (NVIDIA H100)`."""
    own = name(device)
    return f"{device} ({own})" if own else str(device)


def missing_kernel(error: BaseException) -> str | None:
    """What to tell the user where an Apple GPU lacks an operator; None for other errors."""
    found = _NO_MPS_KERNEL.search(str(error))
    return found and (
        f"PyTorch {torch.__version__} has no kernel for {found[1]} on Apple GPUs: set PYTORCH_ENABLE_MPS_FALLBACK=1 to "
        "have it computed on the CPU, slowly and with a warning, or use the CPU for all with ACCELERATE_USE_CPU=true"
    )


def pins_memory(device: torch.device) -> bool:
    """Whether batches for this device are prepared in page-locked memory."""
    return device.type in PINNED


def peak_bytes(device: torch.device) -> int | None:
    """Most memory that this process has had in use on the device; None where torch does not say.

    On CPU it is the largest resident set of the process.
    """
    if device.type == "cpu":
        if sys.platform == "win32":
            return int(psutil.Process().memory_info().peak_wset)
        import resource  # not on Windows

        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest if sys.platform == "darwin" else largest * 1024
    module = module_of(device)
    if hasattr(module, "max_memory_allocated"):
        return int(module.max_memory_allocated(device))
    return int(module.driver_allocated_memory()) if hasattr(module, "driver_allocated_memory") else None


def total_bytes(device: torch.device) -> int | None:
    """Memory of the device, or of the machine for the CPU; None where torch does not say."""
    if device.type == "cpu":
        return int(psutil.virtual_memory().total)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    properties = getattr(module_of(device), "get_device_properties", None)
    return int(properties(device).total_memory) if properties else None


def module_of(device: torch.device) -> Any:
    """The module of torch for this kind of device, such as `torch.cuda`."""
    return getattr(torch, device.type)


def _accelerator() -> str | None:
    """The kind of accelerator of this machine."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found.type if found is not None else None


def _processor() -> str:
    """The processor's name, as Linux knows it; elsewhere what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _refuse_cpu() -> None:
    """MachineError, naming the node and what is missing, where GPUs were asked for; for a process without any."""
    if not os.environ.get(_WANTS_GPUS):
        return
    if not (torch.version.cuda or torch.version.hip):
        raise MachineError(
            f"this stage asks for GPUs, but PyTorch {torch.__version__} was built without CUDA support: install a CUDA "
            "build for the jobs' Python, or set resources.gpus_per_node=0 to train on CPUs"
        )
    node = os.environ.get("SLURMD_NODENAME", socket.gethostname())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
    raise MachineError(
        f"this stage asks for GPUs, but PyTorch finds none on node {node} (CUDA_VISIBLE_DEVICES is {visible}): look at "
        "nvidia-smi there, or set resources.gpus_per_node=0 to train on CPUs"
    )
