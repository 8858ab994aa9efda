"""The level of the images that a run is trained on, which its checkpoints record for launch/denoise.py to compare."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from quell.configs.errors import DataError
from quell.configs.fields import Needs
from quell.configs.schema import DataConfig
from quell.configs.support.json_files import Record
from quell.launch.data.fields import available_fields
from quell.shards.reading.recipe import INTEGER_MAX
from quell.shards.reading.shard_set import ShardSet
from quell.shards.reading.split import Split

IMAGES = 16
"""Images, spread evenly over the split, that a level is measured from."""
TAIL_PERCENT = 0.1
"""The darkest and the brightest pixels that do not count: dead and hot pixels are no level."""
MAX_PX = 1 << 20
"""Of a larger image every n-th pixel is measured."""
NOTES = ("source", "units", "window_hu", "data_range", "axis")
"""What of the builder's notes says how files became the images of the shards."""


@dataclass(frozen=True)
class Level:
    """Where the values of an image lie, in stored units; integers of 8 and 16 bits as fractions of their maximum.

    Of complex images it is the level of their magnitude.
    """

    low: float
    """0.1th percentile."""
    high: float
    """99.9th percentile."""
    mean: float


@dataclass(frozen=True)
class TrainingLevel:
    """The levels of a field's training images taken together."""

    dtype: str
    """numpy's name of the stored dtype."""
    images: int
    """Images that were measured."""
    low: float
    """Smallest of their `Level.low`."""
    high: float
    """Greatest of their `Level.high`."""
    least_high: float
    """Smallest of their `Level.high`: that of the darkest image."""
    mean: float
    """Mean of their means."""
    least_mean: float
    """Smallest of their means."""


@dataclass(frozen=True)
class TrainingData:
    """What a checkpoint records about the values that a run was trained on."""

    levels: dict[str, TrainingLevel]
    """By field."""
    notes: dict[str, object]
    """The builder's notes named in NOTES."""

    def to_json(self) -> Record:
        """As plain values, for meta.json."""
        return {"levels": {name: asdict(level) for name, level in self.levels.items()}, "notes": self.notes}

    @classmethod
    def from_json(cls, record: Mapping[str, Record]) -> "TrainingData":
        """What `to_json` returned."""
        levels = {name: TrainingLevel(**level) for name, level in record["levels"].items()}
        return cls(levels, dict(record["notes"]))


def level_of(image: np.ndarray) -> Level:
    """The level of an image or a stack, whatever its shape."""
    values = image.ravel()
    values = values[:: -(-values.size // MAX_PX)]
    values = np.abs(values) if values.dtype.kind == "c" else values.astype(np.float64)
    values = values / INTEGER_MAX.get(str(image.dtype), 1.0)
    low, high = np.percentile(values, [TAIL_PERCENT, 100 - TAIL_PERCENT])
    return Level(float(low), float(high), float(values.mean()))


def measure(needs: Needs, data: DataConfig, shards: Split) -> TrainingData:
    """Measure the fields that restoring reads, on a few images of the training split.

    Of streams and remote shards, whose single samples are expensive to read, the statistics in the index are taken.
    """
    notes = {key: shards.meta[key] for key in NOTES if key in shards.meta}
    levels: dict[str, TrainingLevel] = {}
    is_local = isinstance(shards, ShardSet) and "://" not in str(shards.path)
    for name, source in available_fields(needs, data, shards).items():
        member = source.member or name
        if source.draw != "same" or source.evaluation:
            continue
        try:
            level = _of_field(shards, member) if is_local else _of_statistics(shards, member)
        except DataError:  # a damaged sample is reported by whoever trains on it
            level = None
        if level is not None and np.isfinite([level.low, level.high, level.mean]).all():
            levels[name] = level
    return TrainingData(levels, notes)


def _of_field(shards: Split, member: str) -> TrainingLevel:
    numbers = np.unique(np.linspace(0, len(shards) - 1, IMAGES).astype(int))
    stored = shards.locate(numbers, member)
    levels = [
        level_of(shards.read_member(int(number), member, place, verify=False))
        for number, place in zip(numbers, stored, strict=True)
    ]
    return TrainingLevel(
        dtype=shards.fields[member].dtype,
        images=len(levels),
        low=_rounded(min(level.low for level in levels)),
        high=_rounded(max(level.high for level in levels)),
        least_high=_rounded(min(level.high for level in levels)),
        mean=_rounded(float(np.mean([level.mean for level in levels]))),
        least_mean=_rounded(min(level.mean for level in levels)),
    )


def _of_statistics(shards: Split, member: str) -> TrainingLevel | None:
    """What the index knows: extremes and means over some images, of the magnitude. None where it knows less."""
    entry, dtype = shards.statistics.get(member), shards.fields[member].dtype
    if entry is None:
        return None
    low, high, mean, median = (entry[name] for name in ("min", "max", "mean", "median"))
    if low is None or high is None or mean is None or median is None:
        return None
    divisor = INTEGER_MAX.get(dtype, 1.0)
    is_signed = not dtype.startswith(("uint", "complex"))
    return TrainingLevel(
        dtype=dtype,
        images=entry["images"],
        low=_rounded((-high if is_signed else low) / divisor),
        high=_rounded(high / divisor),
        least_high=_rounded(median / divisor),
        mean=_rounded(mean / divisor),
        least_mean=_rounded(mean / 2 / divisor),
    )


def _rounded(value: float) -> float:
    """Six digits."""
    return float(f"{value:.6g}")
