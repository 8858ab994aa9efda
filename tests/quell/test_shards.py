"""Shards from Python: samples by number, slices, iteration, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

import quell
from quell.configs.errors import DataError
from quell.shards.building.writer import write_split
from quell.shards.reading.shard_set import ShardSet


def test_samples_are_mappings_of_the_stored_images(mini: Path) -> None:
    with quell.open_shards(mini / "test") as shards:
        assert len(shards) == 3 and set(shards.fields) == {"pd", "pdfs", "pd_clean", "pdfs_clean"}
        stored = ShardSet.open(mini / "test")
        assert np.array_equal(shards[1]["pd"], stored.read(1, "pd")) and shards[1]["pd"].dtype == np.complex64
        assert shards.key(-1) == "test002" and shards.notes(2) == {"case": "test002"}
        assert shards.meta["data_range"] == 1.0
        last = shards[1:][::-1]
        assert len(last) == 2 and [last.key(i) for i in range(2)] == ["test002", "test001"]
        assert [sample["pd"][0, 0] for sample in shards] == [stored.read(i, "pd")[0, 0] for i in range(3)]
        with pytest.raises(IndexError, match="sample 3 of 3"):
            shards[3]


def test_a_sample_has_the_fields_that_it_has(tmp_path: Path) -> None:
    image = np.zeros((8, 8), dtype=np.float32)
    write_split(
        tmp_path,
        [{"__key__": "a", "noisy.npy": image, "clean.npy": image}, {"__key__": "b", "noisy.npy": image}],
        name="tiny",
        meta={},
    )
    shards = quell.open_shards(tmp_path)
    assert [sorted(sample) for sample in shards] == [["clean", "noisy"], ["noisy"]]


def test_relative_folders_start_in_the_working_directory(mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mini)
    assert len(quell.open_shards("val")) == len(quell.open_shards(".", split="val")) == 5
    with pytest.raises(DataError, match="holds the splits test, train, val"):
        quell.open_shards(".")
