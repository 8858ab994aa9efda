"""From a configuration to readers: shard sets, recipes, and what each field looks like to a network."""

import math

from configs.errors import DataError
from configs.fields import Needs
from configs.schema import DataConfig
from configs.support.paths import resolve
from configs.support.suggestions import did_you_mean
from launch.data.fields import field_specs, image_kinds
from shards.reading.shard_set import ShardSet
from shards.reading.split import Split
from shards.reading.streaming import StreamedSet, TrainingSplit


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


def open_training(data: DataConfig) -> TrainingSplit:
    """The training split, as data.mode says.

    Raises DataError as well where the validation split, which is measured at the end in any case, cannot be opened, and
    where data.fields names a member that neither split holds: an optional one would be left out without a word.
    """
    if data.mode == "indexed":
        training: TrainingSplit = open_split(data, data.train_split)
    else:
        root = data.root if "://" in data.root else str(resolve(data.root))
        training = StreamedSet.open_stream(f"{root.rstrip('/')}/{data.train_split}", data.cache.retries)
    validation = open_split(data, data.val_split)
    held = sorted({*training.fields, *validation.fields})
    for field, member in data.fields.items():
        if member not in held:
            raise DataError(
                f"data.fields.{field} names the member '{member}', which neither {training.path} nor "
                f"{validation.path} holds; {did_you_mean(member, held)}"
            )
    return training


def refuse_unfit_validation(needs: Needs, data: DataConfig, training: Split) -> None:
    """DataError where the validation split cannot be measured after training on these shards, before time is spent.

    It must state its data range, hold what the method needs, and show images of the training split's kind.
    """
    validation = open_split(data, data.val_split)
    data_range(validation)
    trained, here = (field_specs(needs, data, shards) for shards in (training, validation))
    kinds = [image_kinds(needs, data, shards) for shards in (training, validation)]
    for name in sorted(trained.keys() & here.keys()):
        if trained[name] != here[name]:
            raise DataError(
                f"{validation.path}: the images of field {name} are {kinds[1][name].words}, those of "
                f"{training.path} are {kinds[0][name].words}: build both alike, or set data.val_split"
            )


def data_range(shards: Split) -> float:
    """The range PSNR and SSIM are computed with, in stored units, as the shards' builder stated it."""
    value = shards.meta.get("data_range")
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        states = f"states the data_range {value!r}, no number above 0," if value else "does not state its data_range,"
        raise DataError(
            f"{shards.path} {states} which PSNR and SSIM need: put it into the index "
            "with `python -m shards.inspect DIR --set data_range=1.0`"
        )
    return float(value)


def size(shards: Split, limit: int | None) -> int:
    """Samples used of a split."""
    return min(len(shards), limit or len(shards))
