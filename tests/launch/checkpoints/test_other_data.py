"""A run is resumed on the data that it was trained on: a moved copy is the same, other samples are refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from quell.shards.building.writer import write_split
from quell.shards.format.fingerprint import same_content
from quell.shards.reading.shard_set import ShardSet
from quell.shards.reading.streaming import StreamedSet
from tests.support.runs import checkpoint_of, read_summary
from tests.support.small_runs import TrainSmall, pd_pdfs_sample, single_error

OPTIONS = ("checkpoint.every_steps=2", "evaluation.every_epochs=null")


@pytest.fixture
def other(mini: Path, tmp_path: Path) -> Path:
    """The mini shards with other training images of the same number, names and sizes."""
    root = tmp_path / "other"
    shutil.copytree(mini, root)
    shutil.rmtree(root / "train")
    rng = np.random.default_rng(7)
    samples = [pd_pdfs_sample(rng, f"train{i:03d}") for i in range(26)]
    write_split(root / "train", samples, name="mini", meta={"data_range": 1.0})
    return root


def test_other_data_of_the_same_count_are_refused_unless_allowed(
    train_small: TrainSmall, other: Path, mini: Path, tmp_path: Path
) -> None:
    assert train_small(*OPTIONS, "loop.max_steps=2")[0] == 0
    code, output = train_small(*OPTIONS, f"data.root={other}")
    error = single_error(output)
    assert code == 5 and f"the shards in {other / 'train'} are not those that" in error
    assert str(checkpoint_of(tmp_path / "run", 2)) in error and "checkpoint.allow_other_data=true" in error
    moved = tmp_path / "moved"
    shutil.copytree(mini, moved)
    assert train_small(*OPTIONS, f"data.root={moved}", "loop.max_steps=3")[0] == 0
    code, output = train_small(*OPTIONS, f"data.root={other}", "checkpoint.allow_other_data=true")
    assert code == 0 and "other data" in read_summary(tmp_path / "run")["warnings"]


def test_a_checkpoint_without_a_fingerprint_accepts_data_of_the_same_count() -> None:
    assert same_content(None, "1:abc:5") and same_content("0:xyz:5", "1:abc:5")


def test_the_fingerprint_is_of_the_content_only(mini: Path, other: Path, tmp_path: Path) -> None:
    original = ShardSet.open(mini / "train").fingerprint
    assert not same_content(ShardSet.open(other / "train").fingerprint, original)
    assert StreamedSet.open_stream(str(mini / "train"), 0).fingerprint == original
    copy = tmp_path / "copy"
    shutil.copytree(mini / "train", copy)
    header = json.loads((copy / "index.json").read_text())
    header["meta"]["note"] = "another"
    del header["checksum"]
    (copy / "index.json").write_text(json.dumps(header))
    assert ShardSet.open(copy).fingerprint == original
    content, _, _ = original.rpartition(":")
    assert same_content(f"{content}:-", original), "an index without the checksum of its table"
    assert not same_content(f"{content}:1", original)
