"""From a configuration to readers: shard sets, recipes, and what each field looks like to a network."""

from dataclasses import replace

import torch

from configs.errors import DataError
from configs.fields import FieldSpec, Needs, Source
from configs.schema import DataConfig
from launch.cli import resolve
from pipelines.base import Batch
from shards.dataset import ShardSet
from shards.recipe import Recipe, bind


def open_split(data: DataConfig, split: str) -> ShardSet:
    """The shards of one split; DataError with the folder and how to make it when there are none."""
    path = resolve(data.root) / split
    if not path.is_dir():
        root = path.parent
        others = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
        raise DataError(
            f"no shards at {path}" + (f" (that folder has: {', '.join(others)})" if others else "")
            + ": make them with `python -m shards.build SOURCE --output DIR`, or set data.root"
        )
    return ShardSet.open(path)


def present(needs: Needs, data: DataConfig, shards: ShardSet) -> dict[str, Source]:
    """The fields of a batch on these shards: needed ones, and optional ones that the shards hold.

    Raises DataError naming every needed member that is missing.
    """
    unknown = sorted(set(data.fields) - set(needs.fields))
    if unknown:
        raise DataError(f"data.fields names {', '.join(unknown)}, but the method reads {', '.join(needs.fields)}")
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


def field_specs(needs: Needs, data: DataConfig, shards: ShardSet) -> dict[str, FieldSpec]:
    """Channels and kind of each batch field, training's and evaluation's."""
    recipe = Recipe(fields=present(needs, data, shards), representation=data.representation)
    return {field.name: field.spec for field in bind(recipe, shards, one_size=False)}


def data_range(shards: ShardSet) -> float:
    """The range PSNR and SSIM are computed with, in stored units, as the shards' builder stated it."""
    value = shards.meta.get("data_range")
    if not value:
        raise DataError(f"{shards.path} does not state its data_range, which PSNR and SSIM need: add it to the index "
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
