"""The machine and the world of processes: device, precision, threads, seeds."""

import ctypes
import importlib.util
import logging
import os
import platform
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import filter_trackers
from accelerate.utils import DeepSpeedPlugin, DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import nn

from configs.errors import ConfigError, EnvironmentProblem
from configs.schema import LoopConfig

TIMEOUT = timedelta(minutes=float(os.environ.get("QUELL_TIMEOUT_MINUTES", "10")))
"""How long a rank waits for the others before the run ends; set QUELL_TIMEOUT_MINUTES for slow file systems."""

NARROW = 32
"""Channels from which a convolution's weight gradient is slower channels-last, on CPU."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's mallopt, in bytes."""


def make_accelerator(loop: LoopConfig, *, complex_numbers: bool = False) -> Accelerator:
    """The accelerator of this process, with its world formed from the environment (torchrun, accelerate, SLURM).

    Raises EnvironmentProblem when the world that formed is not the one the environment announced, and ConfigError for a
    precision this device does not have.
    """
    on_cpu = not torch.accelerator.is_available()
    if complex_numbers:
        loop = loop.model_copy(update={"precision": "no"})
    if deepspeed_asked_for():
        accelerator = _with_deepspeed(on_cpu)
    else:
        accelerator = Accelerator(
            cpu=on_cpu,
            mixed_precision=precision(loop, on_cpu=on_cpu),
            kwargs_handlers=[
                InitProcessGroupKwargs(timeout=TIMEOUT),
                DistributedDataParallelKwargs(gradient_as_bucket_view=True),
            ],
        )
    announced = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != announced:
        raise EnvironmentProblem(
            f"{announced} processes were started but a world of {accelerator.num_processes} formed: on CPU start with "
            "ACCELERATE_USE_CPU=true torchrun --standalone --nproc_per_node N launch/train.py ..."
        )
    _set_threads(loop.threads)
    if on_cpu:
        keep_freed_memory()
    if loop.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)
        # every new tensor would be filled first, for programs that read what they never wrote: 5 % of a step
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return accelerator


def close(accelerator: Accelerator) -> None:
    """Leave the world of processes, so that another run may follow in this process."""
    accelerator.end_training()
    AcceleratorState._reset_state(reset_partial_state=True)


def start_wandb(
    accelerator: Accelerator, project: str, config: dict[str, Any]
) -> Callable[[dict[str, Any], int], None]:
    """A function that also sends numbers to Weights & Biases; EnvironmentProblem where the package is missing."""
    if importlib.util.find_spec("wandb") is None:
        raise EnvironmentProblem("tracking.wandb_project is set but wandb is not installed: pip install wandb, or set "
                                 "it to null")
    accelerator.log_with = filter_trackers(["wandb"])
    accelerator.init_trackers(project, config=config)
    return lambda values, step: accelerator.log(values, step=step)


def precision(loop: LoopConfig, *, on_cpu: bool) -> str:
    """The autocast type as accelerate names it: no, bf16 or fp16.

    `auto` is bf16 on a GPU that has it in hardware, else fp16, either only when a probe computes right with it; on CPU
    it is bf16 where the processor multiplies matrices in it (AMX), else no.
    """
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


def place(network: nn.Module, device: torch.device, loop: LoopConfig) -> None:
    """Put a network on a device; with channels_last its weights lie as NHWC, and what they are applied to follows."""
    network.to(device)
    if takes_channels_last(network, device, loop):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def takes_channels_last(network: nn.Module, device: torch.device, loop: LoopConfig) -> bool:
    """Whether `loop.channels_last` means this network on this device.

    Complex weights stay planar: torch convolves their parts one by one.
    """
    if any(parameter.is_complex() for parameter in network.parameters()):
        return False
    return loop.channels_last if loop.channels_last != "auto" else device.type != "cpu" or is_narrow(network)


def is_narrow(network: nn.Module) -> bool:
    """Whether some convolution has fewer than 32 channels on both its sides, as where images are largest.

    On CPU the gradient of a wider one's weights takes oneDNN up to half as long again in channels-last order (29
    against 44 GFLOP/s for 32 channels, AVX2), and batch norms lose as well; narrower ones gain in all their passes.
    """
    return any(max(module.in_channels, module.out_channels) < NARROW for module in network.modules()
               if isinstance(module, nn.Conv2d | nn.ConvTranspose2d))


def keep_freed_memory() -> None:
    """Have the C library (glibc) keep what a step frees for the next one, instead of handing it back to the system.

    Large tensors are otherwise mapped and cleared anew at every step.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        for option, value in ((_M_MMAP_THRESHOLD, 2**30), (_M_TRIM_THRESHOLD, 2**31 - 1)):
            library.mallopt(option, value)


def multiplies_bf16() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware (AMX); others are far slower than in float32."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16", False))


def computes(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a convolution and its gradient really run on this device in this type and come out right."""
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


def autocast(device: torch.device, name: str) -> Callable[[], AbstractContextManager[Any]]:
    """A context in which operations run in a precision (no, bf16, fp16); weights stay float32 on every target."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(name)
    return nullcontext if dtype is None else lambda: torch.autocast(device.type, dtype)


def deepspeed_asked_for() -> bool:
    """Whether this process was started by a DeepSpeed config of accelerate."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() in ("1", "true", "yes")


def _with_deepspeed(on_cpu: bool) -> Accelerator:
    """An accelerator whose models become DeepSpeed engines, its ZeRO stage and offloading as the launcher said.

    It does no mixed precision itself, or weights would become bfloat16: the view's own autocast does.
    """
    missing = [name for name in ("deepspeed", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise EnvironmentProblem(f"DeepSpeed was asked for but {' and '.join(missing)} is not installed (accelerate "
                                 "needs both): pip install -e '.[deepspeed]', or launch with another accelerate config")
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r"`torch\.distributed\.\w+` is deprecated", category=FutureWarning)
    options: dict[str, Any] = {"timeout": TIMEOUT}
    if on_cpu:
        os.environ["ACCELERATE_USE_CPU"] = "false"  # with it accelerate would leave DeepSpeed out, without a word
        # what this extension does gloo does too, and it takes a minute to be compiled at first use
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        options["backend"] = "gloo"  # else each rank takes itself for the only one
    os.environ.setdefault("LOCAL_RANK", "0")
    return Accelerator(mixed_precision="no", deepspeed_plugins=DeepSpeedPlugin(zero3_init_flag=False),
                       kwargs_handlers=[InitProcessGroupKwargs(**options)])


def _set_threads(wanted: int) -> None:
    """Share this machine's cores among its processes, so that two ranks do not fight for both cores."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("SLURM_NTASKS_PER_NODE", "1")).split("(")[0])
    if wanted:
        torch.set_num_threads(wanted)
    elif "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // max(local, 1)))
