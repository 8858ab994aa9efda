"""From a configuration to single parts of a run: pipeline, phases, sample order, length."""

from collections.abc import Callable
from functools import partial
from typing import Any

import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from quell.configs.batching import batch_problem
from quell.configs.errors import ConfigError
from quell.configs.schema import LoopConfig, RunConfig
from quell.launch.data import fields
from quell.launch.machine import compilation, complex_gradients
from quell.launch.methods import method_of
from quell.launch.runs.tracker import Tracker
from quell.launch.training import optimizers
from quell.launch.training.phases import Phase
from quell.pipelines.base import Pipeline
from quell.shards.reading.order import SampleOrder
from quell.shards.reading.split import Split

RANDOM_FILLS = (Tensor.normal_, Tensor.uniform_)
"""What most initialisations of torch.nn.init come down to; the others are intercepted themselves."""


def make_pipeline(config: RunConfig, shards: Split) -> Pipeline:
    """The method of a configuration, for the kind of images that these shards hold.

    Raises:
        ConfigError: The method does not support such images, or has no phase that `optimizer.phases` names.
        DataError: The shards lack a field that the method needs.
    """
    method = method_of(config)
    specs = fields.field_specs(method.needs(config.pipeline), config.data, shards)
    refuse_oversized(partial(method, config.pipeline, specs))
    pipeline = method(config.pipeline, specs)
    optimizers.refuse_other_phases(config.optimizer, list(pipeline.phases))
    return pipeline


def refuse_oversized(build: Callable[[], nn.Module]) -> None:
    """ConfigError where the weights that a method asks for do not fit the memory of this machine.

    Allocating them would end in the kernel's killing the process. They are counted on the meta device, which takes no
    memory; a method that cannot be built there is built as it is.
    """
    try:
        with torch.device("meta"), UninitialisedWeights():
            size = sum(tensor.numel() * tensor.element_size() for tensor in build().state_dict().values())
    except Exception:  # whatever is wrong, building it for real says so
        return
    memory = psutil.virtual_memory().total
    if size > memory:
        raise ConfigError(
            f"pipeline: these networks have {size / 1e9:.3g} GB of weights, and this machine has {memory / 1e9:.3g} GB "
            "of memory; choose smaller widths or fewer blocks"
        )


class UninitialisedWeights(TorchFunctionMode):
    """Inside the block no tensor is filled with random numbers; of tensors without memory that takes the compiler."""

    def __torch_function__(self, function: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """The tensor to fill as it is; whatever else is called does what it does."""
        kwargs = kwargs or {}
        if function in RANDOM_FILLS or getattr(function, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


def make_phases(accelerator: Accelerator, pipeline: Pipeline, config: RunConfig, precision: str = "no") -> list[Phase]:
    """A pipeline's phases for the launch target: one process, DDP, or DeepSpeed. Collective.

    Args:
        accelerator: Wraps their views.
        pipeline: The method.
        config: The run.
        precision: Autocast type, as chosen for the device (launch/machine/precision.py).
    """
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        from quell.launch.training import deepspeed  # an optional package, slow to import

        deepspeed.refuse_what_cannot_work(config, pipeline)
        return [
            deepspeed.ZeroPhase(accelerator, pipeline, name, config, precision=precision) for name in pipeline.phases
        ]
    if compilation.check(config.loop, list(pipeline.phases), accelerator.device):
        compilation.prepare()
    complex_gradients.check_complex(accelerator, pipeline)
    return [Phase(accelerator, pipeline, name, config, precision=precision) for name in pipeline.phases]


def synchronise_batch_norm(
    pipeline: Pipeline, device: torch.device, world: int, loop: LoopConfig, tracker: Tracker
) -> None:
    """Replace every batch norm by one that computes its statistics over all processes (loop.sync_batchnorm).

    Parameters and buffers keep their names and values. torch has such a norm for CUDA only; elsewhere a warning says
    that statistics stay per process.
    """
    if not loop.sync_batchnorm or world == 1:
        return
    if device.type != "cuda":
        tracker.warning(
            "sync_batchnorm",
            f"torch synchronises batch norms on CUDA only: on {device.type} statistics stay per process",
            0,
        )
        return
    for name, child in list(pipeline.named_children()):
        setattr(pipeline, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))


def make_order(config: RunConfig, size: int, rank: int, world: int) -> SampleOrder:
    """Which of `size` samples each step of this rank takes."""
    return SampleOrder(
        size=size,
        batch=config.data.batch_size,
        seed=config.seed,
        rank=rank,
        world=world,
        accumulate=config.loop.accumulate,
        tail=config.data.tail,
        shuffle=config.data.shuffle,
    )


def length(config: RunConfig, order: SampleOrder) -> tuple[int, float]:
    """Steps and epochs of the whole run: the shorter of loop.max_steps and loop.epochs."""
    limits = [config.loop.max_steps] if config.loop.max_steps is not None else []
    if config.loop.epochs is not None:
        limits.append(order.steps(config.loop.epochs))
    return min(limits), order.epoch_at(min(limits))


def refuse_uneven_batch(config: RunConfig, world: int) -> None:
    """ConfigError unless the global batch divides into equal micro-batches on every process."""
    if problem := batch_problem(config.data.batch_size, world_size=world, accumulate=config.loop.accumulate):
        raise ConfigError(problem)
