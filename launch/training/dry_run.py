"""`launch/train.py --dry-run`: the resolved run and its sizes, and what the first step would refuse."""

import os
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from quell.configs.loader import dump
from quell.configs.schema import RunConfig
from quell.launch.data import loading, splits
from quell.launch.data.finishing import Finisher
from quell.launch.evaluation import chosen_metric, fitness
from quell.launch.machine import compilation
from quell.launch.machine.devices import take_device
from quell.launch.machine.precision import choose
from quell.launch.runs.trackers import choice
from quell.launch.training.build import length, make_order, make_pipeline, refuse_uneven_batch
from quell.pipelines.base import Pipeline
from quell.shards.reading.order import SampleOrder
from quell.shards.reading.streaming import TrainingSplit

DRY_RUN_SAMPLES = 2
"""Samples on which a dry run computes the losses; some layers need more than one."""


@dataclass(frozen=True)
class OpenedRun:
    """What a run works with, on one of its processes."""

    shards: TrainingSplit
    pipeline: Pipeline
    order: SampleOrder


def open_run(config: RunConfig, world: int) -> OpenedRun:
    """Open the data of a run and build its method, as its first process does, but copy no shards for that.

    Raises:
        QuellError: What training would refuse at this point.
    """
    config = config.model_copy(update={"data": splits.in_place(config.data)})
    shards = splits.open_training(config.data)
    pipeline = make_pipeline(config, shards)
    needs = type(pipeline).needs(config.pipeline)
    splits.refuse_unfit_validation(needs, config.data, shards)
    validation = splits.open_split(config.data, config.data.val_split)
    metrics = chosen_metric.measured(config.evaluation, pipeline.outputs)
    fitness.refuse_small_images(pipeline.outputs, metrics, needs, config.data, validation)
    refuse_uneven_batch(config, world)
    order = make_order(config, splits.size(shards, config.data.limit), 0, world)
    return OpenedRun(shards, pipeline, order)


def describe(config: RunConfig) -> int:
    """Print the resolved configuration, parameters per network, steps and shards; nothing is written or trained.

    Returns:
        The exit code, 0.

    Raises:
        QuellError: What the first step of a real run would raise, such as for crops too small for a critic.
    """
    print(dump(config), end="")
    choice.require(config.tracking)
    device = take_device()
    choose(config.loop, device, complex_numbers=config.data.representation == "complex")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    run = open_run(config, world)
    shards, pipeline, order = run.shards, run.pipeline, run.order
    compilation.check(config.loop, list(pipeline.phases), device)
    steps, epochs = length(config, order)
    _print_networks(pipeline)
    print(
        f"\n{order.size} samples of {', '.join(sorted(shards.fields))} in {len(shards.shards)} shards at {shards.path}"
    )
    print(
        f"{order.size / order.batch:.2f} steps per epoch, {steps} steps = {epochs:.2f} epochs, "
        f"{order.batch} samples a step on {world} process{'es' if world > 1 else ''}"
    )
    print(f"trying the losses on {min(DRY_RUN_SAMPLES, order.micro_batch)} samples", flush=True)
    try_losses(config, pipeline, shards, order)
    return 0


@torch.no_grad()
def try_losses(
    config: RunConfig, pipeline: Pipeline, shards: TrainingSplit, order: SampleOrder, *, shapes_only: bool = False
) -> None:
    """Compute the losses of the first step on a few real samples, and discard them: nothing is learned.

    A small batch is enough, because no network or loss refuses one for its size alone. What is otherwise calibrated on
    whole images is measured on these samples, and a stream is read no further than them. With `shapes_only` the method
    moves to the meta device, where shapes are worked out and nothing is computed.
    """
    count = min(DRY_RUN_SAMPLES, order.micro_batch)
    recipe = loading.training_recipe(pipeline.training_needs(), config.data, shards)
    small = config.data.model_copy(update={"stream_buffer": count, "prefetch": 1})
    few = replace(order, batch=count, rank=0, world=1, accumulate=1)
    with loading.training_loader(recipe, small, shards, few, steps=1) as batches:
        batch = Finisher(recipe, shards, order.seed)(next(iter(batches))[0])
    if shapes_only:
        pipeline.to("meta")
        batch = {name: value.to("meta") if isinstance(value, Tensor) else value for name, value in batch.items()}
    elif pipeline.calibrates:
        pipeline.calibrate([batch])
    pipeline.on_step_start(0, 0.0)
    carry: dict[str, Tensor] = {}
    for phase in pipeline.phases:
        if pipeline.is_active(phase, 0):
            carry |= pipeline.loss(phase, batch, carry).carry


def _print_networks(pipeline: Pipeline) -> None:
    print("\nnetworks")
    for phase, parts in pipeline.phases.items():
        for part in parts:
            value = getattr(pipeline, part)
            parameters = [value] if isinstance(value, nn.Parameter) else value.parameters()
            print(f"  {phase:12} {part:16} {sum(p.numel() for p in parameters):>12,} parameters")
