"""Recipes and loaders: how stored samples become the batches a method reads."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from configs.fields import Needs
from configs.schema import DataConfig, RunConfig
from launch.data.fields import present
from launch.data.splits import open_split, size
from pipelines.base import Batch, Pipeline
from shards.reading.loaders import EvalLoader, Loader
from shards.reading.order import SampleOrder
from shards.reading.recipe import Recipe
from shards.reading.shard_set import ShardSet
from shards.reading.split import Split
from shards.reading.streaming import StreamedSet, StreamLoader, TrainingSplit

CALIBRATION = 32
"""Whole training images from which a method measures what it needs to know once, such as the noise level."""


def training_loader(
    recipe: Recipe, data: DataConfig, shards: TrainingSplit, plan: SampleOrder, **settings: Any
) -> Loader | StreamLoader:
    """The training batches of one rank; `settings` as of `Loader`."""
    settings |= {"prefetch": data.prefetch, "verify": data.verify}
    if isinstance(shards, StreamedSet):
        return StreamLoader(shards, plan, recipe, buffer=data.stream_buffer, **settings)
    return Loader(shards, plan, recipe, **settings)


def training_recipe(needs: Needs, data: DataConfig, shards: Split) -> Recipe:
    """How a training sample becomes tensors: crop, augmentation, noise draws; fields for evaluation are left out."""
    fields = {name: source for name, source in present(needs, data, shards).items() if not source.evaluation}
    return Recipe(
        fields=fields,
        normals=needs.normals,
        crop=data.crop,
        flip=data.flip,
        rotate=data.rotate,
        phase=data.phase,
        normalise=data.normalise,
        representation=data.representation,
    )


def whole_recipe(needs: Needs, data: DataConfig, shards: Split) -> Recipe:
    """How an evaluation sample becomes tensors: full images in training's units, without fields of unrelated samples.

    A recipe does not crop, augment or draw noise by default.
    """
    fields = {name: source for name, source in present(needs, data, shards).items() if source.draw == "same"}
    return Recipe(fields=fields, normalise=data.normalise, representation=data.representation)


def load_whole_images(shards: ShardSet, needs: Needs, data: DataConfig, count: int) -> list[Batch]:
    """The first `count` samples of a split (fewer where it holds fewer) as evaluation batches, all in memory."""
    indices = np.arange(min(count, len(shards)))
    with EvalLoader(shards, indices, whole_recipe(needs, data, shards), data.eval_batch_size) as batches:
        return list(batches)


def calibrate(pipeline: Pipeline, config: RunConfig, shards: TrainingSplit) -> None:
    """Show a pipeline that calibrates up to CALIBRATION whole training images: the same ones on every rank."""
    if not pipeline.calibrates:
        return
    if isinstance(shards, StreamedSet):  # single images are only found through the index
        shards = open_split(config.data, config.data.train_split)
    recipe = training_recipe(type(pipeline).needs(config.pipeline), config.data, shards)
    count = size(shards, config.data.limit)
    chosen = np.unique(np.linspace(0, count - 1, min(count, CALIBRATION)).round().astype(np.int64))
    with EvalLoader(shards, chosen, replace(recipe, normals={}), config.data.eval_batch_size) as batches:
        pipeline.calibrate(batches)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on a device."""
    if device.type == "cpu":
        return batch
    return {k: v.to(device, non_blocking=True) if torch.is_tensor(v) else v for k, v in batch.items()}
