"""Recipes and loaders: how stored samples become the batches a method reads."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from quell.configs.fields import DRAWS, Needs
from quell.configs.schema import DataConfig, RunConfig
from quell.launch.data.fields import available_fields, resized_to
from quell.launch.data.finishing import Finisher
from quell.launch.data.splits import open_split, size
from quell.launch.machine import devices
from quell.pipelines.base import Batch, Pipeline
from quell.shards.reading.batch_assembler import Verify
from quell.shards.reading.loaders import EvalLoader, Loader
from quell.shards.reading.order import SampleOrder
from quell.shards.reading.recipe import Recipe
from quell.shards.reading.shard_set import ShardSet
from quell.shards.reading.split import Split
from quell.shards.reading.streaming import StreamedSet, StreamLoader, TrainingSplit

CALIBRATION = 32
"""Full training images on which a method measures once what it needs to know, such as the noise level."""


def training_loader(
    recipe: Recipe, data: DataConfig, shards: TrainingSplit, order: SampleOrder, **settings: Any
) -> Loader | StreamLoader:
    """The training batches of one rank, indexed or streamed.

    Args:
        recipe: How samples become tensors.
        data: Prefetching, checksums, and the shuffle buffer of a stream.
        shards: The training split.
        order: Which samples each step takes.
        settings: Further arguments of `Loader`: start_step, steps, pin.
    """
    settings |= {"prefetch": data.prefetch, "verify": data.verify, "threads": data.threads}
    if isinstance(shards, StreamedSet):
        return StreamLoader(shards, order, recipe, buffer=data.stream_buffer, **settings)
    return Loader(shards, order, recipe, **settings)


def training_recipe(needs: Needs, data: DataConfig, shards: Split, draws: int = DRAWS) -> Recipe:
    """How a training sample becomes tensors: cropped, augmented, with noise draws, without evaluation-only fields.

    `draws` is the version of the run's random draws (`configs.fields.DRAWS`).
    """
    fields = {name: source for name, source in available_fields(needs, data, shards).items() if not source.evaluation}
    return Recipe(
        fields=fields,
        normals=needs.normals,
        margins=needs.margins,
        windows=needs.windows,
        sizes=needs.sizes,
        seeds=needs.seeds,
        resize=resized_to(data),
        crop_at=data.crop_at,
        crop=data.crop,
        flip=data.flip,
        rotate=data.rotate,
        phase=data.phase,
        normalise=data.normalise,
        draws=draws,
        representation=data.representation,
    )


def evaluation_recipe(needs: Needs, data: DataConfig, shards: Split) -> Recipe:
    """How an evaluation sample becomes tensors: full images in training's units, without unpaired fields.

    A recipe does not crop, augment or draw noise by default.
    """
    fields = {name: source for name, source in available_fields(needs, data, shards).items() if source.draw == "same"}
    return Recipe(fields=fields, normalise=data.normalise, resize=resized_to(data), representation=data.representation)


def load_whole_images(shards: ShardSet, needs: Needs, data: DataConfig, count: int) -> list[Batch]:
    """The first `count` samples of a split (fewer where it holds fewer) as evaluation batches, all in memory."""
    indices = np.arange(min(count, len(shards)))
    recipe = evaluation_recipe(needs, data, shards)
    with whole_images(shards, indices, recipe, data.eval_batch_size, verify=data.verify) as batches:
        return list(batches)


@contextmanager
def whole_images(
    shards: ShardSet,
    samples: np.ndarray,
    recipe: Recipe,
    batch: int,
    *,
    device: torch.device | None = None,
    verify: Verify = "first",
) -> Iterator[Iterator[Batch]]:
    """Finished batches of uncropped images, on the CPU unless a device is given; arguments as of `EvalLoader`."""
    finish, device = Finisher(recipe, shards), device or torch.device("cpu")
    with EvalLoader(shards, samples, recipe, batch, verify=verify, pin=devices.pins_memory(device)) as batches:
        yield (finish(to_device(batch, device)) for batch in batches)


def calibrate(pipeline: Pipeline, config: RunConfig, shards: TrainingSplit) -> None:
    """Let a pipeline that calibrates measure up to CALIBRATION full training images, the same ones on every rank.

    Besides the fields it trains on it sees second noisy copies (`<field>_second`), never clean images that it does not
    train on.
    """
    if not pipeline.calibrates:
        return
    if isinstance(shards, StreamedSet):  # only the index finds single images
        shards = open_split(config.data, config.data.train_split)
    needs = type(pipeline).needs(config.pipeline)
    recipe = training_recipe(needs, config.data, shards)
    available = available_fields(needs, config.data, shards)
    repeats = {name: source for name, source in available.items() if name.endswith("_second")}
    recipe = replace(recipe, fields=recipe.fields | repeats, normals={}, windows=False)
    count = size(shards, config.data.limit)
    indices = np.unique(np.linspace(0, count - 1, min(count, CALIBRATION)).round().astype(np.int64))
    with whole_images(shards, indices, recipe, config.data.eval_batch_size, verify=config.data.verify) as batches:
        pipeline.calibrate(batches)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on a device."""
    return {
        name: value.to(device, non_blocking=devices.pins_memory(device)) if torch.is_tensor(value) else value
        for name, value in batch.items()
    }
