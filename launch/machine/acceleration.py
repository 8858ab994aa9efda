"""accelerate, set up for this process: its device, its world, DeepSpeed."""

import importlib.util
import logging
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DeepSpeedPlugin, DistributedDataParallelKwargs, InitProcessGroupKwargs

from quell.configs.errors import ConfigError, MachineError
from quell.configs.schema import LoopConfig
from quell.configs.support.mappings import Settings
from quell.launch.machine import devices
from quell.launch.machine.arithmetic import set_determinism
from quell.launch.machine.memory_layout import keep_freed_memory
from quell.launch.machine.threads import set_threads

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


def make_accelerator(loop: LoopConfig) -> Accelerator:
    """The accelerator of this process, in the world that the environment announces (torchrun, accelerate, SLURM).

    It wraps models for DDP or DeepSpeed; precision is applied by the phases themselves (launch/machine/precision.py).

    Args:
        loop: Threads and determinism.

    Raises:
        MachineError: The world that formed is not the one that was announced, the device cannot be used, or DeepSpeed
            is not installed.
    """
    set_determinism(loop.deterministic)
    on_cpu = devices.take_device().type == "cpu"
    if uses_deepspeed():
        accelerator = _with_deepspeed(on_cpu)
    else:
        accelerator = Accelerator(
            cpu=on_cpu,
            mixed_precision="no",
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
    set_threads(loop.threads, accelerator.num_processes)
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    return accelerator


def close(accelerator: Accelerator) -> None:
    """Leave the process group, so that another run may follow in this process."""
    accelerator.end_training()
    AcceleratorState._reset_state(reset_partial_state=True)


@contextmanager
def apart() -> Iterator[None]:
    """A block in which accelerators have nothing to do with those of the program around it.

    All accelerators of a process share their state. `close` empties it, and one of another precision cannot be made.
    """
    kinds = (PartialState, AcceleratorState, GradientState)
    kept = [dict(kind._shared_state) for kind in kinds]
    for kind in kinds:
        kind._shared_state.clear()
    try:
        yield
    finally:
        for kind, before in zip(kinds, kept, strict=True):  # the dictionaries themselves: accelerators hold them
            kind._shared_state.clear()
            kind._shared_state.update(before)


def require_deepspeed() -> None:
    """MachineError unless the packages are installed that accelerate needs for DeepSpeed."""
    missing = [name for name in ("deepspeed", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise MachineError(
            f"DeepSpeed needs {' and '.join(missing)}, which is not installed (accelerate needs both packages): "
            "pip install -e '.[deepspeed]', or launch with another accelerate configuration"
        )


def uses_deepspeed() -> bool:
    """Whether this process was launched with a DeepSpeed configuration of accelerate."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() in ("1", "true", "yes")


def _with_deepspeed(on_cpu: bool) -> Accelerator:
    """An accelerator whose models become DeepSpeed engines, with the ZeRO stage and offloading of the launcher.

    It does no mixed precision itself, for DeepSpeed would turn the weights into bfloat16: the view's autocast does.
    """
    require_deepspeed()
    if on_cpu and devices.has_accelerator():
        raise MachineError(
            "accelerate's DeepSpeed takes the GPU of a machine that has one, whatever ACCELERATE_USE_CPU says: unset "
            "that, or hide the GPU (CUDA_VISIBLE_DEVICES='')"
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
