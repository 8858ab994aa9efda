"""The real images on which an exported restoration is compared with its run."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quell.configs.errors import ConfigError, DataError
from quell.configs.schema import DataConfig
from quell.launch.data import splits
from quell.launch.inference.finding import find_inputs
from quell.launch.inference.restoration import Restoration
from quell.launch.inference.restorer import Restorer
from quell.shards.reading.recipe import INTEGER_MAX
from quell.shards.reading.shard_set import ShardSet

IMAGES = 4
"""Images of a split that a file is compared on."""


@dataclass(frozen=True)
class Sample:
    """An image of every field that a run reads, in stored units: (H, W) or (H, W, C), float32 or complex64."""

    key: str
    images: dict[str, np.ndarray]
    """By field."""
    clean: dict[str, np.ndarray]
    """By output; what it is compared with, where there is that."""
    data_range: float | None = None

    def resized(self, size: tuple[int, int]) -> "Sample":
        """The top left of the sample in another height and width; extended by reflection where it is smaller."""
        return Sample(
            f"{self.key}, {size[0]} x {size[1]}",
            {name: _resized(image, size) for name, image in self.images.items()},
            {name: _resized(image, size) for name, image in self.clean.items()},
            self.data_range,
        )


def of_split(
    restorer: Restorer, data: str | None = None, split: str | None = None, count: int = IMAGES
) -> list[Sample]:
    """Images of a split, spread evenly over it.

    Args:
        restorer: The run.
        data: Root of the shards; None for the run's own.
        split: Name; None for the run's test split, or its validation split where there is none.
        count: How many.

    Raises:
        DataError: There are no shards.
    """
    config = restorer.model.config.data
    config = config.model_copy(update={"root": data} if data is not None else {})
    try:
        shards = _open(config, split)
    except DataError as error:
        raise DataError(
            f"{error}; an export is compared with its run on real images: give their shards with --data, or files with "
            "--on"
        ) from error
    range_ = shards.meta.get("data_range")
    members = restorer.needs.members(config.fields)
    numbers = np.unique(np.linspace(0, len(shards) - 1, count).astype(int))
    samples = []
    for number in map(int, numbers):
        images = {field: _read(shards, number, member) for field, member in restorer.input_fields.items()}
        clean = {
            output: _read(shards, number, members[each.clean])
            for output, each in restorer.outputs.items()
            if members.get(each.clean) in shards.fields
        }
        samples.append(
            Sample(shards.key(number), images, clean, float(range_) if isinstance(range_, int | float) else None)
        )
    return samples


def of_files(restorer: Restorer, files: list[str]) -> list[Sample]:
    """The first image of each file, or of each `field=FILE,field=FILE`, as `quell denoise` reads them.

    Raises:
        QuellError: As `quell denoise`.
    """
    inputs, _ = find_inputs(files, None, Path())
    restoration = Restoration(restorer, None, force=True)
    samples = []
    for task in restoration.check(inputs, iter):
        for source, stacks in restoration.noisy_arrays(task):
            first = {name: stack[0, ..., 0] if stack.shape[-1] == 1 else stack[0] for name, stack in stacks.items()}
            samples.append(Sample(source, {name: _in_stored_units(image) for name, image in first.items()}, {}))
    if not samples:
        raise ConfigError("--on: there is no image among these files")
    return samples


def _open(config: DataConfig, split: str | None) -> ShardSet:
    if split is not None:
        return splits.open_split(config, split)
    try:
        return splits.open_split(config, config.test_split)
    except DataError:
        return splits.open_split(config, config.val_split)


def _read(shards: ShardSet, number: int, member: str) -> np.ndarray:
    return _in_stored_units(shards.read(number, member))


def _in_stored_units(image: np.ndarray) -> np.ndarray:
    """Integers as fractions of their maximum."""
    if image.dtype.kind == "c":
        return image.astype(np.complex64)
    divisor = INTEGER_MAX.get(str(image.dtype), 1.0)
    return image.astype(np.float32) * np.float32(1 / divisor)


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    beyond = [(0, max(wanted - own, 0)) for wanted, own in zip(size, image.shape, strict=False)]
    extended = np.pad(image, [*beyond, *[(0, 0)] * (image.ndim - 2)], mode="reflect")
    return np.ascontiguousarray(extended[: size[0], : size[1]])
