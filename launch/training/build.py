"""From a configuration to the parts of a run: pipeline, phases, sample order, length."""

from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedType

from configs import registry
from configs.schema import RunConfig
from launch.data import fields
from launch.training import complex_gradients, optimizers
from launch.training.phases import Phase
from pipelines.base import Pipeline
from shards.reading.order import SampleOrder
from shards.reading.shard_set import ShardSet


def make_phases(accelerator: Accelerator, pipeline: Pipeline, config: RunConfig) -> list[Phase]:
    """A pipeline's phases for the launch target: one process, DDP, or ZeRO."""
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        from launch.training import deepspeed  # an optional package, slow to import

        deepspeed.refuse_what_cannot_work(config, pipeline)
        return [deepspeed.ZeroPhase(accelerator, pipeline, name, config) for name in pipeline.phases]
    complex_gradients.check_complex(accelerator, pipeline)
    return [Phase(accelerator, pipeline, name, config) for name in pipeline.phases]


def make_pipeline(config: RunConfig, shards: ShardSet) -> Pipeline:
    """The method of a configuration on the kind of images these shards hold."""
    cls: Any = registry.find("pipelines", config.pipeline.name)
    pipeline: Pipeline = cls(config.pipeline, fields.field_specs(cls.needs(config.pipeline), config.data, shards))
    optimizers.refuse_other_phases(config.optimizer, list(pipeline.phases))
    return pipeline


def make_plan(config: RunConfig, size: int, rank: int, world: int) -> SampleOrder:
    """Which samples each step takes."""
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


def length(config: RunConfig, plan: SampleOrder) -> tuple[int, float]:
    """Steps and epochs of the whole run."""
    limits = [config.loop.max_steps] if config.loop.max_steps is not None else []
    if config.loop.epochs is not None:
        limits.append(plan.steps(config.loop.epochs))
    return min(limits), plan.epoch_at(min(limits))
