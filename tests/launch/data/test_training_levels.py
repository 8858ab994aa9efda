"""The level of training images that checkpoints record."""

from pathlib import Path

import numpy as np
import pytest

from quell.configs import loader
from quell.configs.fields import Needs, Source
from quell.configs.schema import DataConfig
from quell.launch.data import training_levels
from quell.launch.data.training_levels import TrainingData, level_of
from quell.shards.building.writer import write_split
from quell.shards.reading.shard_set import ShardSet
from quell.shards.reading.streaming import StreamedSet

NEEDS = Needs({"noisy": Source(), "clean": Source(optional=True, evaluation=True)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A split of eight uint8 images, each brighter than the one before."""
    samples = [
        {"__key__": f"s{i}", **{f"{name}.npy": np.full((20, 20), 10 + 20 * i, np.uint8) for name in ("noisy", "clean")}}
        for i in range(8)
    ]
    write_split(tmp_path / "train", samples, name="tiny", meta={"data_range": 1.0, "units": "some", "seed": 3})
    return tmp_path / "train"


def data_config(folder: Path) -> DataConfig:
    """The `data` section of a configuration of these shards."""
    pipeline = {"name": "supervised", "network": {"name": "dncnn"}}
    return loader.structure({"name": "x", "pipeline": pipeline, "data": {"root": str(folder.parent)}}).data


def test_integers_count_as_fractions_and_only_fields_that_restoring_reads_are_measured(folder: Path) -> None:
    measured = training_levels.measure(NEEDS, data_config(folder), ShardSet.open(folder))
    assert set(measured.levels) == {"noisy"} and measured.notes == {"data_range": 1.0, "units": "some"}
    level = measured.levels["noisy"]
    assert (level.dtype, level.images) == ("uint8", 8)
    expected = {"low": 10, "high": 150, "least_high": 10, "mean": 80, "least_mean": 10}
    assert {name: round(255 * getattr(level, name), 3) for name in expected} == expected
    assert TrainingData.from_json(measured.to_json()) == measured


def test_streams_are_described_by_the_statistics_of_their_index(folder: Path) -> None:
    ShardSet.open(folder)
    level = training_levels.measure(NEEDS, data_config(folder), StreamedSet.open_stream(str(folder), 0)).levels["noisy"]
    assert (round(255 * level.low), round(255 * level.high), round(255 * level.mean)) == (10, 150, 80)


def test_hot_and_dead_pixels_do_not_count() -> None:
    image = np.full((100, 100), 0.5)
    image[0, 0], image[0, 1] = 1000.0, -1000.0
    level = level_of(image)
    assert (level.low, level.high) == (0.5, 0.5)
