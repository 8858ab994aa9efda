"""Opening the splits of a data set, and refusing before training what would fail after it."""

import math

from quell.configs.errors import DataError
from quell.configs.fields import Needs
from quell.configs.schema import DataConfig
from quell.configs.support.paths import resolve
from quell.configs.support.suggestions import did_you_mean
from quell.launch.data.fields import field_specs, image_kinds
from quell.shards.reading.shard_set import ShardSet
from quell.shards.reading.split import Split
from quell.shards.reading.streaming import StreamedSet, TrainingSplit


def open_split(data: DataConfig, split: str) -> ShardSet:
    """Open the shards of one split; DataError where there are none, with how to build them."""
    if "://" in data.root:
        return ShardSet.open(f"{data.root.rstrip('/')}/{split}", cache=data.cache)
    path = resolve(data.root) / split
    if not path.is_dir():
        root = path.parent
        others = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
        hint = f" (that folder has: {', '.join(others)}; choose with data.val_split and the like)" if others else ""
        raise DataError(
            f"no shards at {path}{hint}: build them with `python -m shards.build SOURCE --output DIR`, or set data.root"
        )
    return ShardSet.open(path, cache=data.cache)


def in_place(data: DataConfig) -> DataConfig:
    """The same data, read where they are: for a look at them, perhaps on a machine that will not train."""
    return data.model_copy(update={"cache": data.cache.model_copy(update={"copy_local": False})})


def open_training(data: DataConfig) -> TrainingSplit:
    """Open the training split as data.mode says.

    Raises:
        DataError: It cannot be opened; nor can the validation split, which will be needed at the latest in the end; or
            `data.fields` names a member that neither of them holds (an optional field would silently be left out).
    """
    if data.mode == "indexed":
        training: TrainingSplit = open_split(data, data.train_split)
    else:
        root = data.root if "://" in data.root else str(resolve(data.root))
        training = StreamedSet.open_stream(f"{root.rstrip('/')}/{data.train_split}", data.cache.retries)
    validation = open_split(data, data.val_split)
    members = sorted({*training.fields, *validation.fields})
    for field, member in data.fields.items():
        if member not in members:
            raise DataError(
                f"data.fields.{field} names the member '{member}', which neither {training.path} nor "
                f"{validation.path} holds; {did_you_mean(member, members)}"
            )
    return training


def refuse_unfit_validation(needs: Needs, data: DataConfig, training: Split) -> None:
    """DataError, before any time is spent, where the validation split could not be evaluated after this training.

    It must state its data range, hold what the method needs, and have the training split's kind of images.
    """
    validation = open_split(data, data.val_split)
    data_range(validation)
    specs, validation_specs = (field_specs(needs, data, shards) for shards in (training, validation))
    kinds, validation_kinds = (image_kinds(needs, data, shards) for shards in (training, validation))
    for name in sorted(specs.keys() & validation_specs.keys()):
        if specs[name] != validation_specs[name]:
            raise DataError(
                f"{validation.path}: the images of field '{name}' are {validation_kinds[name].words}, but those of "
                f"{training.path} are {kinds[name].words}: build both alike, or set data.val_split"
            )


def data_range(shards: Split) -> float:
    """The range of the stored values as their builder stated it, for PSNR and SSIM; DataError where it is not > 0."""
    value = shards.meta.get("data_range")
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        problem = f"data_range must be a number > 0, got {value!r}" if value else "data_range is missing"
        raise DataError(
            f"{shards.path}: {problem}; PSNR and SSIM need it: set it in the index with "
            "`python -m shards.inspect DIR --set data_range=1.0`"
        )
    return float(value)


def size(shards: Split, limit: int | None) -> int:
    """Number of samples used of a split."""
    return min(len(shards), limit or len(shards))
