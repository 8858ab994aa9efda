"""Local shards copied to the node: once for all its ranks, verified, the same batches, and gone in the end."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from quell.configs.errors import ConfigError, DataError, MachineError
from quell.configs.fields import Source
from quell.configs.loader import structure
from quell.configs.schema import CacheConfig, DataConfig
from quell.configs.support.paths import ROOT
from quell.launch.data import splits
from quell.shards.building.writer import write_split
from quell.shards.reading.loaders import Loader
from quell.shards.reading.order import SampleOrder
from quell.shards.reading.recipe import Recipe
from quell.shards.reading.shard_set import ShardSet
from quell.shards.remote.remote_files import RemoteShardFiles

IMAGES = 6


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A data set with two splits of several shards each."""
    for number, split in enumerate(("train", "val")):
        samples = [
            {
                "__key__": f"{split}{i}",
                "x.npy": np.random.default_rng(10 * number + i).normal(size=(20, 24)).astype("f4"),
            }
            for i in range(IMAGES)
        ]
        write_split(tmp_path / "shared" / split, samples, name=split, meta={"data_range": 1.0}, max_size_mb=0.003)
    return tmp_path / "shared"


def settings(local: Path, folder: Path, **cache: object) -> DataConfig:
    return DataConfig.model_validate(
        {"root": str(local), "cache": {"copy_local": True, "folder": str(folder), **cache}}
    )


def read_all(shards: ShardSet) -> list[bytes]:
    return [shards.read(i, "x").tobytes() for i in range(len(shards))]


def tars(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.rglob("*.tar"))


def batches(shards: ShardSet) -> list[bytes]:
    """The images and noise of a few training batches, byte for byte."""
    recipe = Recipe({"x": Source()}, {"noise": "x"}, crop=16, flip=True, draws=1)
    with Loader(shards, SampleOrder(len(shards), 4, 3), recipe, steps=4) as loader:
        return [value.numpy().tobytes() for (batch,) in loader for value in (batch["x"], batch["noise"])]


def test_copies_give_the_same_images_and_are_read_instead_of_the_original(local: Path, tmp_path: Path) -> None:
    data = settings(local, tmp_path / "node")
    for split in (data.train_split, data.val_split):
        original, copied = ShardSet.open(local / split), splits.open_split(data, split)
        assert batches(copied) == batches(original)
        assert read_all(copied) == read_all(original) and copied.path == original.path and not copied.notes
        assert isinstance(copied.files, RemoteShardFiles)
        assert all(path.is_relative_to(tmp_path / "node") for path in copied.files.paths)
    assert tars(tmp_path / "node") == tars(local)


def test_ranks_of_a_node_share_one_copy(local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, opened = settings(local, tmp_path / "node"), list[str]()
    ranks = [splits.open_split(data, "train") for _ in range(3)]
    real = open

    def counting(file: object, mode: str = "r", **options: object) -> object:
        if mode == "rb" and str(file).startswith(str(local)) and str(file).endswith(".tar"):
            opened.append(str(file))
        return real(file, mode, **options)  # type: ignore[call-overload]

    monkeypatch.setattr("builtins.open", counting)
    threads = [threading.Thread(target=read_all, args=(rank,)) for rank in ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(opened) == sorted(map(str, (local / "train").glob("*.tar"))), (
        "each shard is read from the shared disk once"
    )


def test_a_shard_that_its_index_does_not_describe_is_named(local: Path, tmp_path: Path) -> None:
    shards = splits.open_split(settings(local, tmp_path / "node"), "train")
    shard = next(iter(sorted((local / "train").glob("*.tar"))))
    content = bytearray(shard.read_bytes())
    content[700] ^= 1  # within the first image: neither size nor fingerprint show it
    shard.write_bytes(content)
    with pytest.raises(DataError, match=rf"{shard.name}: .*shards\.verify DIR --repair"):
        read_all(shards)
    assert not [name for name in tars(tmp_path / "node") if name == shard.name]


def test_a_copy_that_is_damaged_on_the_node_is_made_again(local: Path, tmp_path: Path) -> None:
    data = settings(local, tmp_path / "node")
    expected = read_all(splits.open_split(data, "train"))
    copy = next(iter(sorted((tmp_path / "node").rglob("*.tar"))))
    copy.write_bytes(copy.read_bytes()[:1000])
    assert read_all(splits.open_split(data, "train")) == expected


def test_without_room_the_original_is_read_and_that_is_said(local: Path, tmp_path: Path) -> None:
    data = settings(local, tmp_path / "node", max_gb=1e-6)
    shards = splits.open_split(data, "train")
    (note,) = shards.notes
    assert "do not fit the node's copies" in note and "it is read where it is; raise data.cache.max_gb" in note
    assert read_all(shards) == read_all(ShardSet.open(local / "train")) and not tars(tmp_path / "node")


def test_the_folder_of_the_job_is_taken_and_variables_are_replaced(
    local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_TMPDIR", str(tmp_path / "job"))
    shards = ShardSet.open(local / "train", cache=CacheConfig(copy_local=True))
    assert shards.files.paths and read_all(shards) and tars(tmp_path / "job" / "quell-shards")
    shards = splits.open_split(settings(local, Path("$SLURM_TMPDIR/mine")), "val")
    assert read_all(shards) and tars(tmp_path / "job" / "mine")
    with pytest.raises(MachineError, match=r"data.cache.folder \$NOWHERE/x: the variable \$NOWHERE is not set"):
        splits.open_split(settings(local, Path("$NOWHERE/x")), "val")


def test_a_folder_that_was_made_for_the_copies_is_removed_by_the_last_who_leaves(local: Path, tmp_path: Path) -> None:
    """One that was there stays, with its copies: the next job finds them."""
    (tmp_path / "kept").mkdir()
    script = (
        "import sys; from quell.launch import cli\nfrom tests.shards.remote.test_copies_of_local_splits import *\n"
        "local, folder = map(Path, sys.argv[1:]); shards = splits.open_split(settings(local, folder), 'train')\n"
        "read_all(shards); print(len(tars(folder)), flush=True); input(); cli.leave(0)"
    )

    def process(folder: Path) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", script, str(local), str(folder)]
        environment = {**os.environ, "WORLD_SIZE": "2"}  # then cli.leave does not finalise Python
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def leave(other: "subprocess.Popen[str]") -> None:
        other.communicate("\n", timeout=120)
        assert other.returncode == 0

    made, kept = tmp_path / "made", tmp_path / "kept"
    ranks = [process(made), process(made), process(kept)]
    for rank in ranks:
        assert rank.stdout and int(rank.stdout.readline()) == len(tars(local / "train"))
    leave(ranks[0])
    assert tars(made) == tars(local / "train"), "another rank still reads it"
    leave(ranks[1])
    leave(ranks[2])
    assert not made.exists() and tars(kept) == tars(local / "train")


def test_stream_mode_has_nothing_to_copy() -> None:
    run = {"pipeline": {"name": "supervised"}, "data": {"mode": "stream", "cache": {"copy_local": True}}}
    with pytest.raises(ConfigError, match=r"data: cache\.copy_local: stream mode stores nothing on the node"):
        structure(run)


def test_a_look_at_the_data_copies_nothing(local: Path, tmp_path: Path) -> None:
    """Before a job starts, neither its node's disk nor its variables are there."""
    data = splits.in_place(settings(local, Path("$SLURM_TMPDIR/copies")))
    assert read_all(splits.open_split(data, "val")) == read_all(ShardSet.open(local / "val"))
    assert data == DataConfig(root=str(local), cache=CacheConfig(folder="$SLURM_TMPDIR/copies"))
