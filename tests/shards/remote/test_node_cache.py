"""The node's cache: bounded, shared, verified, and never evicting what is being read."""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from quell.configs.errors import DataError, MachineError
from quell.configs.schema import CacheConfig
from quell.shards.building.writer import write_split
from quell.shards.format import index, tar
from quell.shards.reading.shard_set import ShardSet
from quell.shards.remote import node_cache
from quell.shards.remote.remote_files import RemoteShardFiles
from tests.support.http_server import Server, serving

Open = Callable[..., ShardSet]
SPLIT_GB = 34e-6
"""A little more than one of the splits below: two do not fit."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Splits a, b and c of equal size."""
    for number, name in enumerate("abc"):
        samples = [{"__key__": f"{name}{i}", "x.npy": np.full((20, 24), 10 * number + i, np.float32)} for i in range(6)]
        write_split(tmp_path / "served" / name, samples, name=name, meta={}, max_size_mb=0.003)
    with serving(tmp_path / "served") as running:
        yield running


@pytest.fixture
def opened(server: Server, tmp_path: Path) -> Open:
    def open_split(name: str, max_gb: float = SPLIT_GB) -> ShardSet:
        settings = CacheConfig(folder=str(tmp_path / "cache"), max_gb=max_gb, retries=1)
        return ShardSet.open(f"{server.url}/{name}", cache=settings)

    return open_split


def remote_files(shards: ShardSet) -> RemoteShardFiles:
    assert isinstance(shards.files, RemoteShardFiles)
    return shards.files


def read_all(shards: ShardSet) -> list[float]:
    return [float(shards.read(i, "x")[0, 0]) for i in range(len(shards))]


def test_a_split_in_use_is_kept_and_an_unused_one_evicted(opened: Open, server: Server, tmp_path: Path) -> None:
    first = opened("a")
    assert read_all(first) == list(range(6)) and remote_files(first).is_cached
    second = opened("b")
    assert not remote_files(second).is_cached and read_all(second) == list(range(10, 16)), (
        "a is in use: b must not evict it"
    )
    folder = first.index_path
    assert len(list(folder.glob("*.tar"))) == len(first.shards)
    del first, second
    third = opened("c")
    assert remote_files(third).is_cached and read_all(third) == list(range(20, 26)) and not folder.exists()
    total = sum(file.stat().st_size for file in (tmp_path / "cache").rglob("*") if file.is_file())
    assert total <= SPLIT_GB * 1e9


def test_the_least_recently_used_shard_is_evicted_first(opened: Open, tmp_path: Path) -> None:
    first = opened("a")
    read_all(first)
    folder, names = first.index_path, sorted(shard["name"] for shard in first.shards)
    for age, name in enumerate(names):
        os.utime(folder / name, (2e9 - age, 2e9 - age))
    for name in (index.HEADER, index.TABLE):
        os.utime(folder / name, (2e9, 2e9))
    del first
    second = opened("b", max_gb=60e-6)
    assert remote_files(second).is_cached
    left = sorted(file.name for file in folder.glob("*.tar"))
    assert left and left == names[: len(left)] and len(left) < len(names)


def test_readers_of_one_node_download_each_shard_once(opened: Open, server: Server) -> None:
    server.faults.extend(["slow"] * 20)
    per_rank: list[list[float]] = []
    start = threading.Barrier(4)

    def rank() -> None:
        start.wait()
        per_rank.append(read_all(opened("a")))

    ranks = [threading.Thread(target=rank) for _ in range(4)]
    for thread in ranks:
        thread.start()
    for thread in ranks:
        thread.join()
    assert per_rank == [list(range(6))] * 4
    assert len(server.sent_ranges) == len({name for name, _, _ in server.sent_ranges}) == len(opened("a").shards)


def test_a_copy_damaged_on_this_disk_is_downloaded_again(opened: Open) -> None:
    shards = opened("a")
    shards.files.check(0)
    path = shards.index_path / shards.shards[0]["name"]
    path.write_bytes(path.read_bytes()[:-600])
    again = opened("a")
    assert read_all(again) == list(range(6))
    assert path.stat().st_size == shards.shards[0]["size"]


@pytest.mark.parametrize(
    ("index_follows", "message"),
    [
        (False, "is not what the index lists"),
        (True, "checksum of a copied member of field x differs from the index"),
    ],
)
def test_a_shard_that_was_replaced_is_refused(index_follows: bool, message: str, opened: Open, server: Server) -> None:
    file = server.folder / "a" / "a-000000.tar"
    text = bytearray(file.read_bytes())
    text[700] ^= 1
    file.write_bytes(text)
    if index_follows:  # as if inside a large shard, where no fingerprint covers it
        header = json.loads((file.parent / index.HEADER).read_text())
        with open(file, "rb") as changed:
            header["shards"][0].update(tar.fingerprint(changed.fileno())._asdict())
        index.write_header(file.parent, header)
    shards = opened("a")
    with pytest.raises(DataError, match=f"a/{file.name}: .*{message}; .*upload both again"):
        remote_files(shards)._copy(0)
    assert [name for name, _, _ in server.sent_ranges] == [file.name] * node_cache.MAX_DOWNLOADS
    assert not list(shards.index_path.glob(f"{file.name}*"))


def test_damaged_members_are_detected_when_read_by_ranges(opened: Open, server: Server) -> None:
    shards = opened("a", max_gb=6e-6)
    assert not remote_files(shards).is_cached
    file = server.folder / "a" / shards.shards[0]["name"]
    text = bytearray(file.read_bytes())
    text[700] ^= 1
    file.write_bytes(text)
    with pytest.raises(DataError, match=f"{server.url}/a/{file.name}: sample a0: field x is damaged"):
        shards.read(0, "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header.update(samples=5), "the index is damaged"),
        (lambda header: header.pop("checksum"), "not an index of shards"),
        (lambda header: header["table"].update(size="many"), "the index is damaged|not an index"),
    ],
)
def test_a_damaged_index_is_refused_before_anything_is_read(
    change: Callable, message: str, opened: Open, server: Server
) -> None:
    path = server.folder / "a" / index.HEADER
    header = json.loads(path.read_text())
    change(header)
    path.write_text(json.dumps(header))
    with pytest.raises(DataError, match=f"a/index.json.*({message}).*upload"):
        opened("a")


def test_the_table_of_another_split_is_refused(opened: Open, server: Server) -> None:
    shutil.copy(server.folder / "b" / index.TABLE, server.folder / "a" / index.TABLE)
    with pytest.raises(DataError, match=r"a/index\.npy: does not belong to index\.json"):
        opened("a")


def test_shard_names_outside_the_folder_are_refused(opened: Open, server: Server) -> None:
    path = server.folder / "a" / index.HEADER
    header = json.loads(path.read_text())
    header["shards"][0]["name"] = "../../stolen.tar"
    index.write_header(path.parent, header)
    with pytest.raises(DataError, match="index is damaged"):
        opened("a")


def test_a_new_upload_is_not_mixed_with_old_copies(opened: Open, server: Server) -> None:
    assert read_all(opened("a")) == list(range(6))
    shutil.rmtree(server.folder / "a")
    samples = [{"__key__": f"a{i}", "x.npy": np.full((20, 24), 50 + i, np.float32)} for i in range(6)]
    write_split(server.folder / "a", samples, name="a", meta={}, max_size_mb=0.003)
    assert read_all(opened("a")) == list(range(50, 56))


def test_a_cache_that_cannot_be_written_is_explained(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder, max_gb, message in ((tmp_path / "file", 1.0, "cannot be used"), (tmp_path / "c", 1e-9, "not even its")):
        with pytest.raises(MachineError, match=message):
            ShardSet.open(f"{server.url}/a", cache=CacheConfig(folder=str(folder), max_gb=max_gb))


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("QUELL_CACHE", str(tmp_path))
    assert node_cache.default_folder() == tmp_path / "shards"
    monkeypatch.delenv("QUELL_CACHE")
    assert node_cache.default_folder().name == f"quell-{os.getuid()}"
