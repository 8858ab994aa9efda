"""accelerate, set up for this process: its world, DeepSpeed, CPU threads, determinism."""

import importlib.util
import logging
import math
import os
import warnings
from collections.abc import Callable
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import filter_trackers
from accelerate.utils import DeepSpeedPlugin, DistributedDataParallelKwargs, InitProcessGroupKwargs

from configs.errors import ConfigError, MachineError
from configs.schema import LoopConfig
from configs.support.mappings import Settings
from launch.machine.memory_layout import keep_freed_memory
from launch.machine.precision import autocast_type

LONGEST_TIMEOUT_MINUTES = 7 * 24 * 60.0


def read_timeout(text: str) -> timedelta:
    """The value of $QUELL_TIMEOUT_MINUTES; ConfigError where it is not a sensible number of minutes."""
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes <= LONGEST_TIMEOUT_MINUTES:
        raise ConfigError(
            f"QUELL_TIMEOUT_MINUTES: expected a number above 0 and up to {LONGEST_TIMEOUT_MINUTES:g}, got '{text}'"
        )
    return timedelta(minutes=minutes)


TIMEOUT = read_timeout(os.environ.get("QUELL_TIMEOUT_MINUTES", "10"))
"""How long a rank waits for the others before the run ends; set QUELL_TIMEOUT_MINUTES for slow file systems."""


def make_accelerator(loop: LoopConfig, *, complex_numbers: bool = False) -> Accelerator:
    """The accelerator of this process, in the world that the environment announces (torchrun, accelerate, SLURM).

    Args:
        loop: Precision, threads and determinism.
        complex_numbers: Networks compute in complex64, which has no autocast type.

    Raises:
        MachineError: The world that formed is not the one that was announced, or DeepSpeed is not installed.
        ConfigError: The device does not support the precision.
    """
    on_cpu = not torch.accelerator.is_available()
    if uses_deepspeed():
        accelerator = _with_deepspeed(on_cpu)
    else:
        accelerator = Accelerator(
            cpu=on_cpu,
            mixed_precision=autocast_type(loop, on_cpu=on_cpu, complex_numbers=complex_numbers),
            kwargs_handlers=[
                InitProcessGroupKwargs(timeout=TIMEOUT),
                DistributedDataParallelKwargs(gradient_as_bucket_view=True),
            ],
        )
    announced = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != announced:
        raise MachineError(
            f"{announced} processes were started, but they formed a world of {accelerator.num_processes}: on CPU start "
            "with ACCELERATE_USE_CPU=true torchrun --standalone --nproc_per_node N launch/train.py ..."
        )
    _set_threads(loop.threads)
    if on_cpu:
        keep_freed_memory()
    if loop.deterministic:
        _be_deterministic()
    return accelerator


def close(accelerator: Accelerator) -> None:
    """Leave the process group, so that another run may follow in this process."""
    accelerator.end_training()
    AcceleratorState._reset_state(reset_partial_state=True)


def start_wandb(accelerator: Accelerator, project: str, config: Settings) -> Callable[[dict[str, float], int], None]:
    """A function that sends numbers of a step to Weights & Biases.

    Raises:
        MachineError: The package wandb is not installed.
    """
    require_wandb()
    accelerator.log_with = filter_trackers(["wandb"])
    accelerator.init_trackers(project, config=config)
    return lambda values, step: accelerator.log(values, step=step)


def require_wandb() -> None:
    """MachineError unless the package wandb is installed."""
    if importlib.util.find_spec("wandb") is None:
        raise MachineError(
            "tracking.wandb_project is set, but wandb is not installed: pip install wandb, or set it to null"
        )


def uses_deepspeed() -> bool:
    """Whether this process was launched with a DeepSpeed configuration of accelerate."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() in ("1", "true", "yes")


def _with_deepspeed(on_cpu: bool) -> Accelerator:
    """An accelerator whose models become DeepSpeed engines, with the ZeRO stage and offloading of the launcher.

    It does no mixed precision itself, for DeepSpeed would turn the weights into bfloat16: the view's autocast does.
    """
    missing = [name for name in ("deepspeed", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise MachineError(
            f"DeepSpeed needs {' and '.join(missing)}, which is not installed (accelerate needs both packages): "
            "pip install -e '.[deepspeed]', or launch with another accelerate configuration"
        )
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r"`torch\.distributed\.\w+` is deprecated", category=FutureWarning)
    options: Settings = {"timeout": TIMEOUT}
    if on_cpu:
        os.environ["ACCELERATE_USE_CPU"] = "false"  # if true, accelerate silently leaves DeepSpeed out
        # gloo does what this extension does, and compiling it at first use takes a minute
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        options["backend"] = "gloo"  # otherwise each rank takes itself for the only one
    os.environ.setdefault("LOCAL_RANK", "0")
    return Accelerator(
        mixed_precision="no",
        deepspeed_plugins=DeepSpeedPlugin(zero3_init_flag=False),
        kwargs_handlers=[InitProcessGroupKwargs(**options)],
    )


def _be_deterministic() -> None:
    """Have torch choose the same algorithm every time; operators without a deterministic one warn."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    # the same as use_deterministic_algorithms(True, warn_only=True), which imports the compiler to tell it as well
    torch.set_deterministic_debug_mode("warn")
    # otherwise every new tensor is filled first, for programs that read memory they never wrote: 5 % of a step
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _set_threads(wanted: int) -> None:
    """Share this machine's cores among its processes, so that two ranks do not compete for both cores."""
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("SLURM_NTASKS_PER_NODE", "1")).split("(")[0])
    if wanted:
        torch.set_num_threads(wanted)
    elif "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // max(local_world, 1)))
