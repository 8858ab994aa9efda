"""Remote splits give the same batches as local ones over every protocol, whatever the network does on the way."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import fsspec
import numpy as np
import pytest
import torch
from moto.server import ThreadedMotoServer

from quell.configs.errors import ConfigError, DataError, MachineError
from quell.configs.fields import Source
from quell.configs.schema import CacheConfig, DataConfig
from quell.launch.data import splits
from quell.shards.building.writer import write_split
from quell.shards.reading.loaders import EvalLoader, Loader
from quell.shards.reading.order import SampleOrder
from quell.shards.reading.recipe import Recipe
from quell.shards.reading.shard_set import ShardSet
from quell.shards.remote import remote_folder
from quell.shards.remote.remote_files import RemoteShardFiles
from tests.shards.conftest import make_samples
from tests.support.http_server import FAULTS, Server, serving

SAMPLES = 11
FULL = Recipe(
    {"pd": Source(), "pdfs": Source(), "unrelated": Source("pd", draw="unpaired")},
    {"noise": "pd"},
    crop=16,
    flip=True,
    phase=True,
    normalise="median",
)
CACHED_GB, RANGED_GB = 1.0, 5e-6
"""Sizes of caches that hold the full split, or its index only."""


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    folder = tmp_path_factory.mktemp("local") / "train"
    write_split(folder, make_samples(SAMPLES), name="demo", meta={"data_range": 1.0}, max_size_mb=0.015)
    shards = ShardSet.open(folder)
    assert len(shards.shards) > 3
    return shards


@pytest.fixture
def server(local: ShardSet) -> Iterator[Server]:
    with serving(Path(str(local.path)).parent) as running:
        yield running


@pytest.fixture(scope="module")
def s3(local: ShardSet) -> Iterator[str]:
    """The split on an S3 server in this process."""
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", **keys)
    client.create_bucket(Bucket="shards")
    for file in Path(str(local.path)).iterdir():
        client.upload_file(str(file), "shards", f"demo/train/{file.name}")
    before = fsspec.config.conf.get("s3")
    fsspec.config.conf["s3"] = {"endpoint_url": f"http://{host}:{port}", "key": "test", "secret": "test"}
    yield "s3://shards/demo/train"
    fsspec.config.conf.pop("s3") if before is None else fsspec.config.conf.update(s3=before)
    running.stop()


@pytest.fixture
def memory(local: ShardSet) -> str:
    system = fsspec.filesystem("memory")
    system.put(str(local.path), "/demo/train", recursive=True)
    return "memory://demo/train"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_folder, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(remote_folder, "LONGEST_PAUSE_S", 0.002)
    monkeypatch.setattr(remote_folder, "CHUNK_BYTES", 5000)


def cache_config(tmp_path: Path, **settings: Any) -> CacheConfig:
    return CacheConfig(folder=str(tmp_path / "cache"), **settings)


def remote_files(shards: ShardSet) -> RemoteShardFiles:
    assert isinstance(shards.files, RemoteShardFiles)
    return shards.files


def received(shards: ShardSet) -> int:
    """Bytes that came over the network."""
    remote = remote_files(shards).remote
    assert isinstance(remote, remote_folder.RemoteFolder)
    return remote.bytes_read


def batches(shards: ShardSet, start: int = 0, steps: int = 6) -> list[dict[str, Any]]:
    with Loader(shards, SampleOrder(SAMPLES, 4, 3), FULL, start_step=start, steps=steps) as loader:
        result = [batch for (batch,) in loader]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("quell")]
    return result


def assert_same(actual: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) if torch.is_tensor(a[name]) else a[name] == b[name] for name in a)


@pytest.mark.parametrize("max_gb", [CACHED_GB, RANGED_GB])
@pytest.mark.parametrize("protocol", ["memory", "http", "s3"])
def test_batches_and_resumed_batches_equal_those_of_the_local_split(
    protocol: str, max_gb: float, local: ShardSet, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"{request.getfixturevalue('server').url}/train" if protocol == "http" else request.getfixturevalue(protocol)
    shards = ShardSet.open(url, cache=cache_config(tmp_path, max_gb=max_gb))
    assert remote_files(shards).is_cached == (max_gb == CACHED_GB) and str(shards.path) == url
    expected = batches(local)
    assert_same(batches(shards), expected)
    assert_same(batches(shards, start=3, steps=3), expected[3:])
    again = ShardSet.open(url, cache=cache_config(tmp_path, max_gb=max_gb))
    assert_same(batches(again, start=3, steps=3), expected[3:])
    assert shards.meta == local.meta and shards.json(4) == local.json(4)
    with EvalLoader(shards, np.arange(SAMPLES), FULL, 4) as loader:
        assert torch.equal(torch.cat([batch["index"] for batch in loader]), torch.arange(SAMPLES))


@pytest.mark.parametrize("max_gb", [CACHED_GB, RANGED_GB])
def test_a_bad_network_does_not_change_the_batches(
    max_gb: float, local: ShardSet, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_folder, "SILENCE_S", 0.3)  # a busy machine may be silent for longer: retries are many
    server.faults.extend(FAULTS * 2 + ("503", "429", "slow"))
    shards = ShardSet.open(f"{server.url}/train", cache=cache_config(tmp_path, max_gb=max_gb, retries=100))
    assert_same(batches(shards), batches(local))
    assert not server.faults


def test_each_shard_is_downloaded_once_and_continued_after_an_interruption(
    local: ShardSet, server: Server, tmp_path: Path
) -> None:
    server.faults.extend(("", "", "truncate", "", "reset"))
    shards = ShardSet.open(f"{server.url}/train", cache=cache_config(tmp_path))
    batches(shards)
    batches(ShardSet.open(f"{server.url}/train", cache=cache_config(tmp_path)))
    sizes = {shard["name"]: shard["size"] for shard in local.shards}
    assert sorted(server.sent_ranges) == sorted(
        (name, at, min(at + 5000, size)) for name, size in sizes.items() for at in range(0, size, 5000)
    )


def test_partial_downloads_of_an_interrupted_process_are_continued(
    local: ShardSet, server: Server, tmp_path: Path
) -> None:
    shards = ShardSet.open(f"{server.url}/train", cache=cache_config(tmp_path))
    name, size = local.shards[0]["name"], local.shards[0]["size"]
    (shards.index_path / f"{name}.part").write_bytes(local.files.paths[0].read_bytes()[: size - 700])
    shards.files.check(0)
    assert server.sent_ranges == [(name, size - 700, size)]


def test_reading_by_ranges_requests_each_member_once_per_epoch(local: ShardSet, server: Server, tmp_path: Path) -> None:
    shards = ShardSet.open(f"{server.url}/train", cache=cache_config(tmp_path, max_gb=RANGED_GB))
    before = received(shards)
    with Loader(
        shards, SampleOrder(SAMPLES, 1, 3), Recipe({"pd": Source(), "pdfs": Source()}), steps=SAMPLES
    ) as loader:
        list(loader)
    members = sum(int(local.column(field)["size"].sum()) for field in ("pd", "pdfs"))
    assert received(shards) - before == members
    assert "does not fit" in shards.notes[0].replace("do not", "does not") and "per epoch" in shards.notes[0]
    assert not list(shards.index_path.glob("*.tar*"))


def test_a_server_without_ranges(local: ShardSet, server: Server, tmp_path: Path) -> None:
    server.ranges = False
    assert_same(batches(ShardSet.open(f"{server.url}/train", cache=cache_config(tmp_path))), batches(local))
    shards = ShardSet.open(f"{server.url}/train", cache=CacheConfig(folder=str(tmp_path / "b"), max_gb=RANGED_GB))
    with pytest.raises(MachineError, match="demo-00000.*does not support range requests.*data.cache.max_gb"):
        shards.read(0, "pd")


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        ("500", MachineError, "cannot be read after 3 attempts"),
        ("truncate", MachineError, "cannot be read after 3 attempts"),
        ("reset", MachineError, "cannot be read after 3 attempts"),
        ("403", MachineError, "access denied"),
        ("404", DataError, "does not exist"),
        ("410", MachineError, "the server answers with status 410"),
    ],
)
@pytest.mark.parametrize("max_gb", [CACHED_GB, RANGED_GB])
def test_lasting_faults_are_explained(
    fault: str, kind: type[Exception], message: str, max_gb: float, server: Server, tmp_path: Path
) -> None:
    server.always = fault
    shards = ShardSet.open(f"{server.url}/train", cache=cache_config(tmp_path, max_gb=max_gb, retries=2))
    with pytest.raises(kind) as caught, Loader(shards, SampleOrder(SAMPLES, 4, 3), FULL, steps=1) as loader:
        list(loader)
    assert f"{server.url}/train/demo-0" in str(caught.value) and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_splits_and_unsupported_protocols_are_named(server: Server, tmp_path: Path) -> None:
    for url, kind, message in [
        (f"{server.url}/test", DataError, "test/index.json: no index there"),
        ("gs://bucket/train", MachineError, "needs a package that is not installed"),
        ("nosuch://bucket/train", ConfigError, "fsspec does not know the protocol"),
    ]:
        with pytest.raises(kind, match=message):
            ShardSet.open(url, cache=cache_config(tmp_path))
    with pytest.raises(DataError, match="no index there"):
        splits.open_split(DataConfig(root=server.url + "/", cache=cache_config(tmp_path)), "val")
    assert len(splits.open_split(DataConfig(root=server.url + "/", cache=cache_config(tmp_path)), "train")) == SAMPLES


def test_closing_does_not_wait_for_the_network(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_folder, "FIRST_PAUSE_S", 1000.0)
    monkeypatch.setattr(remote_folder, "LONGEST_PAUSE_S", 1000.0)
    server.always = "500"
    shards = ShardSet.open(f"{server.url}/train", cache=cache_config(tmp_path))
    with Loader(shards, SampleOrder(SAMPLES, 4, 3), FULL):
        pass
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("quell")]
