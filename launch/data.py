"""From a configuration to readers: shard sets, recipes, and what each field looks like to a network."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from configs.errors import DataError
from configs.fields import FieldSpec, Needs, Source
from configs.registry import did_you_mean
from configs.schema import DataConfig, RunConfig
from launch.cli import resolve
from pipelines.base import Batch, Pipeline
from shards.dataset import ShardSet
from shards.loader import EvalLoader, Loader
from shards.order import Plan
from shards.recipe import Recipe, bind, spec_of
from shards.streaming import StreamedSet, StreamLoader

CALIBRATION = 32
"""Whole training images from which a method measures what it needs to know once, such as the noise level."""


@dataclass(frozen=True)
class ImageKind:
    """What the images of a field are, as stored; a checkpoint says it of every field it was trained on."""

    dtype: str
    """numpy's name."""
    channels: int
    """Of one stored image; a complex image has one."""

    @property
    def is_complex(self) -> bool:
        """Whether the images have an imaginary part."""
        return self.dtype.startswith("complex")

    @property
    def words(self) -> str:
        """For people: complex, grey, colour, or so many channels."""
        return "complex" if self.is_complex else {1: "grey", 3: "colour"}.get(self.channels, f"{self.channels}-channel")


def open_split(data: DataConfig, split: str) -> ShardSet:
    """The shards of one split; DataError with the folder and how to make it when there are none."""
    if "://" in data.root:
        return ShardSet.open(f"{data.root.rstrip('/')}/{split}", cache=data.cache)
    path = resolve(data.root) / split
    if not path.is_dir():
        root = path.parent
        others = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
        raise DataError(
            f"no shards at {path}"
            + (f" (that folder has: {', '.join(others)}; data.val_split and the like choose)" if others else "")
            + ": make them with `python -m shards.build SOURCE --output DIR`, or set data.root"
        )
    return ShardSet.open(path)


def open_training(data: DataConfig) -> ShardSet:
    """The training split, as data.mode says.

    Raises DataError as well where the validation split, which is measured at the end in any case, cannot be opened, and
    where data.fields names a member that neither split holds: an optional one would be left out without a word.
    """
    if data.mode == "indexed":
        training = open_split(data, data.train_split)
    else:
        root = data.root if "://" in data.root else str(resolve(data.root))
        training = StreamedSet.open_stream(f"{root.rstrip('/')}/{data.train_split}", data.cache.retries)
    validation = open_split(data, data.val_split)
    held = sorted({*training.fields, *validation.fields})
    for field, member in data.fields.items():
        if member not in held:
            raise DataError(f"data.fields.{field} names the member '{member}', which neither {training.path} nor "
                            f"{validation.path} holds; {did_you_mean(member, held)}")
    return training


def refuse_unfit_validation(needs: Needs, data: DataConfig, training: ShardSet) -> None:
    """DataError where the validation split cannot be measured after training on these shards, before time is spent.

    It must state its data range, hold what the method needs, and show images of the training split's kind.
    """
    validation = open_split(data, data.val_split)
    data_range(validation)
    trained, here = (field_specs(needs, data, shards) for shards in (training, validation))
    kinds = [image_kinds(needs, data, shards) for shards in (training, validation)]
    for name in sorted(trained.keys() & here.keys()):
        if trained[name] != here[name]:
            raise DataError(f"{validation.path}: the images of field {name} are {kinds[1][name].words}, those of "
                            f"{training.path} are {kinds[0][name].words}: build both alike, or set data.val_split")


def training_loader(recipe: Recipe, data: DataConfig, shards: ShardSet, plan: Plan, **settings: Any) \
        -> Loader | StreamLoader:
    """The training batches of one rank; `settings` as of shards.loader.Loader."""
    settings |= {"prefetch": data.prefetch, "verify": data.verify}
    if isinstance(shards, StreamedSet):
        return StreamLoader(shards, plan, recipe, buffer=data.stream_buffer, **settings)
    return Loader(shards, plan, recipe, **settings)


def present(needs: Needs, data: DataConfig, shards: ShardSet) -> dict[str, Source]:
    """The fields of a batch on these shards: needed ones, and optional ones that the shards hold.

    Raises DataError naming every needed member that is missing.
    """
    unknown = sorted(set(data.fields) - set(needs.fields))
    if unknown:
        raise DataError(f"data.fields.{unknown[0]} is no field of this method, which reads {', '.join(needs.fields)}; "
                        f"{did_you_mean(unknown[0], list(needs.fields))}")
    members = needs.members(data.fields)
    found = {name: replace(source, member=members[name]) for name, source in needs.fields.items()
             if members[name] in shards.fields}
    missing = [name for name, source in needs.fields.items() if name not in found and not source.optional]
    if missing:
        lacking = ", ".join(f"{name} (member '{members[name]}')" for name in missing)
        changes = " ".join(f"data.fields.{name}=NAME" for name in missing)
        raise DataError(f"{shards.path} does not hold {lacking}, which this method needs; it holds "
                        f"{', '.join(sorted(shards.fields))}: choose among them with {changes}, or choose other data")
    return found


def training_recipe(needs: Needs, data: DataConfig, shards: ShardSet) -> Recipe:
    """How a training sample becomes tensors: crop, augmentation, noise draws; fields for evaluation are left out."""
    fields = {name: source for name, source in present(needs, data, shards).items() if not source.evaluation}
    return Recipe(
        fields=fields, normals=needs.normals, crop=data.crop, flip=data.flip, rotate=data.rotate, phase=data.phase,
        normalise=data.normalise, representation=data.representation,
    )


def whole_recipe(needs: Needs, data: DataConfig, shards: ShardSet) -> Recipe:
    """How an evaluation sample becomes tensors: whole image, no augmentation, no draws, no unrelated samples."""
    fields = {name: source for name, source in present(needs, data, shards).items() if source.draw == "same"}
    return Recipe(
        fields=fields, normals={}, crop=None, flip=False, rotate=False, phase=False,
        normalise=data.normalise, representation=data.representation,
    )


def calibrate(pipeline: Pipeline, config: RunConfig, shards: ShardSet) -> None:
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


def field_specs(needs: Needs, data: DataConfig, shards: ShardSet) -> dict[str, FieldSpec]:
    """Channels and kind of each batch field, training's and evaluation's."""
    recipe = Recipe(fields=present(needs, data, shards), representation=data.representation)
    return {field.name: field.spec for field in bind(recipe, shards, one_size=False)}


def image_kinds(needs: Needs, data: DataConfig, shards: ShardSet) -> dict[str, ImageKind]:
    """What the shards hold for each batch field, training's and evaluation's."""
    stored = {name: shards.fields[source.member] for name, source in present(needs, data, shards).items()}
    return {name: ImageKind(info.dtype, info.channels) for name, info in stored.items()}


def specs_of(kinds: dict[str, ImageKind], representation: str) -> dict[str, FieldSpec]:
    """Channels and kind of each batch field whose stored images are known."""
    return {name: spec_of(name, kind.dtype, kind.channels, representation) for name, kind in kinds.items()}


def data_range(shards: ShardSet) -> float:
    """The range PSNR and SSIM are computed with, in stored units, as the shards' builder stated it."""
    value = shards.meta.get("data_range")
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        states = f"states the data_range {value!r}, no number above 0," if value else "does not state its data_range,"
        raise DataError(f"{shards.path} {states} which PSNR and SSIM need: put it into the index "
                        "with `python -m shards.inspect DIR --set data_range=1.0`")
    return float(value)


def size(shards: ShardSet, limit: int | None) -> int:
    """Samples used of a split."""
    return min(len(shards), limit or len(shards))


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on a device."""
    if device.type == "cpu":
        return batch
    return {k: v.to(device, non_blocking=True) if torch.is_tensor(v) else v for k, v in batch.items()}
