"""Stream mode: exact epochs, equally many batches per rank, and the resume that its notice promises."""

import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quell.configs.errors import DataError
from quell.configs.fields import Source
from quell.configs.schema import DataConfig
from quell.launch.data import loading, splits
from quell.shards.building.writer import write_split
from quell.shards.format import index
from quell.shards.reading.order import SampleOrder
from quell.shards.reading.recipe import Recipe
from quell.shards.reading.shard_set import ShardSet
from quell.shards.reading.stream_order import StreamOrder, limited
from quell.shards.reading.streaming import StreamedSet, StreamLoader
from quell.shards.remote import remote_folder
from tests.shards.conftest import make_samples
from tests.support.http_server import FAULTS, Server, serving

SAMPLES = 13
PAIR = Recipe(
    {"pd": Source(), "pdfs": Source(), "unrelated": Source("pd", draw="unpaired")},
    {"noise": "pd"},
    crop=16,
    flip=True,
    normalise="median",
)
RANK = """
import json, sys
import torch.distributed as dist
from quell.configs.fields import Source
from quell.launch import cli
from quell.shards.reading.order import SampleOrder
from quell.shards.reading.recipe import Recipe
from quell.shards.reading.streaming import StreamedSet, StreamLoader
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
assert world == 2
shards = StreamedSet.open_stream(sys.argv[1], 0)
plan = SampleOrder(len(shards), 4, 1, rank, world)
seen = []
with StreamLoader(shards, plan, Recipe({"pd": Source()}), buffer=3, steps=13) as loader:
    for (batch,) in loader:
        dist.all_reduce(batch["pd"].mean())
        seen += batch["index"].tolist()
per_rank = [None, None]
dist.all_gather_object(per_rank, seen)
if rank == 0:
    open(sys.argv[2], "w").write(json.dumps(per_rank))
dist.destroy_process_group()
cli.leave(0)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of two samples each, but for the last one."""
    place = tmp_path_factory.mktemp("stream") / "train"
    write_split(place, make_samples(SAMPLES), name="demo", meta={"data_range": 1.0}, max_size_mb=0.015)
    assert len({shard["samples"] for shard in ShardSet.open(place).shards}) > 1
    return place


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(remote_folder, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(remote_folder, "LONGEST_PAUSE_S", 0.002)
    monkeypatch.setattr(remote_folder, "SILENCE_S", 0.3)  # a busy machine may be silent for longer: retries are many
    monkeypatch.setattr(remote_folder, "CHUNK_BYTES", 5000)
    with serving(folder.parent) as running:
        yield running


def batches(
    shards: StreamedSet, *, rank: int = 0, world: int = 1, accumulate: int = 1, start: int = 0, steps: int = 7
) -> list[dict[str, Any]]:
    plan = SampleOrder(SAMPLES, 4, 3, rank, world, accumulate)
    with StreamLoader(shards, plan, PAIR, buffer=5, start_step=start, steps=steps) as loader:
        result = [batch for step in loader for batch in step]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("quell")]
    return result


def assert_same(actual: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        assert all(torch.equal(a[name], b[name]) if torch.is_tensor(a[name]) else a[name] == b[name] for name in a)


@pytest.mark.parametrize(
    ("counts", "world", "tail"),
    [
        ((5, 1, 9, 4), 1, "carry"),
        ((5, 1, 9, 4), 2, "carry"),
        ((1, 1, 1), 5, "carry"),
        ((100, 1, 7), 8, "carry"),
        ((3,) * 40, 4, "drop"),
        ((30, 0, 11), 4, "drop"),
    ],
)
def test_every_epoch_holds_every_sample_once_and_ranks_keep_pace(
    counts: tuple[int, ...], world: int, tail: Any
) -> None:
    size, first = sum(counts), np.cumsum([0, *counts])
    batch = 2 * world
    orders = [StreamOrder(counts, SampleOrder(size, batch, 7, rank, world, tail=tail), 4) for rank in range(world)]
    rows = []
    for epoch in range(6):
        occurrences: Counter[int] = Counter()
        lengths = []
        for stream_order in orders:
            blocks = itertools.takewhile(lambda block: block.epoch <= epoch, stream_order.blocks(0))  # noqa: B023
            numbers = []
            for block in blocks:
                if block.epoch == epoch:
                    held = [int(first[run.shard]) + i for run in block.runs for i in range(run.first, run.last)]
                    assert sorted(block.order.tolist()) == list(range(len(held))) and len(held) <= 4
                    numbers += [held[place] for place in block.order]
            occurrences.update(numbers)
            lengths.append(len(numbers))
            assert stream_order.part(epoch)[1] - stream_order.part(epoch)[0] == len(numbers)
        assert max(occurrences.values()) == 1 and sum(occurrences.values()) == orders[0].order.epoch_samples
        rows.append(lengths)
        assert np.ptp(lengths) <= 1 and np.ptp(np.sum(rows, axis=0)) <= 1
    if world == 1:
        block_orders = [tuple(block.order) for block in itertools.islice(orders[0].blocks(0), 12)]
        assert len(set(block_orders)) > 3


@pytest.mark.parametrize("world", [1, 3])
def test_opening_at_a_step_continues_the_order(world: int) -> None:
    counts = (5, 1, 9, 4)
    stream_order = StreamOrder(counts, SampleOrder(19, 6, 7, world - 1, world), 4)

    def numbers(step: int) -> Iterator[tuple[int, int, int]]:
        for block in stream_order.blocks(step):
            held = [(run.shard, i) for run in block.runs for i in range(run.first, run.last)]
            yield from ((block.epoch, *held[place]) for place in block.order)

    uninterrupted = list(itertools.islice(numbers(0), 120))
    for step in range(15):
        taken = step * stream_order.order.micro_batch
        assert list(itertools.islice(numbers(step), 30)) == uninterrupted[taken : taken + 30]


def test_limited_counts_the_first_samples() -> None:
    assert limited((5, 1, 9), 7) == (5, 1, 1) and limited((5, 1), 6) == (5, 1) and limited((5, 3), 2) == (2, 0)


def test_pixels_equal_the_stored_ones_and_epochs_are_exact(folder: Path) -> None:
    local, shards = ShardSet.open(folder), StreamedSet.open_stream(str(folder), 0)
    plan = SampleOrder(SAMPLES, 4, 3)
    seen: list[int] = []
    recipe = Recipe({"pd": Source(), "unrelated": Source("pdfs", draw="unpaired")})
    with StreamLoader(shards, plan, recipe, buffer=5, steps=13) as loader:
        for (batch,) in loader:
            for row, number in enumerate(batch["index"].tolist()):
                assert np.array_equal(batch["pd"][row, 0], local.read(number, "pd"))
                assert batch["key"][row] == local.key(number)
                assert batch["unrelated"][row, 0, 0, 0] != number and batch["unrelated"][row, 0, 0, 1] == 1
            seen += batch["index"].tolist()
    assert [sorted(seen[at : at + SAMPLES]) for at in range(0, 4 * SAMPLES, SAMPLES)] == [list(range(SAMPLES))] * 4
    assert seen[:SAMPLES] != seen[SAMPLES : 2 * SAMPLES]


def test_every_rank_resumes_where_it_was_over_a_bad_network(folder: Path, server: Server) -> None:
    local = StreamedSet.open_stream(str(folder), 0)
    for rank in range(2):
        expected = batches(local, rank=rank, world=2, accumulate=2)
        server.faults.extend(FAULTS)
        shards = StreamedSet.open_stream(f"{server.url}/train", 100)
        assert_same(batches(shards, rank=rank, world=2, accumulate=2), expected)
        assert_same(batches(shards, rank=rank, world=2, accumulate=2, start=4, steps=3), expected[8:])


def test_two_processes_over_uneven_shards_end_with_equal_batches(folder: Path, torchrun: Any, tmp_path: Path) -> None:
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    torchrun([script, folder, tmp_path / "per_rank.json"])
    first, second = json.loads((tmp_path / "per_rank.json").read_text())
    assert len(first) == len(second) == 26
    assert set(Counter(first + second).values()) == {4}


def shrink(header: dict[str, Any], key: str, by: int) -> None:
    """Record a smaller number for the first shard."""
    header["shards"][0][key] -= by


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: shrink(header, "samples", 1), "hold 12 samples, but the index says 13"),
        (lambda header: shrink(header, "tail", 1), "is not what the index lists"),
        (lambda header: header["fields"]["pd"].update(dtype="float64"), "not what the index says"),
        (lambda header: header["fields"]["pd"].update(count=5), "of 13 samples lack field pd"),
        (lambda header: shrink(header, "size", 9000), "truncated|not what the index"),
    ],
)
def test_shards_of_another_index_are_refused(change: Any, message: str, folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    header = json.loads((tmp_path / index.HEADER).read_text())
    change(header)
    index.write_header(tmp_path, header)
    with pytest.raises(DataError, match=message) as caught:
        batches(StreamedSet.open_stream(str(tmp_path), 0))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_split_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no index there"):
        StreamedSet.open_stream(str(tmp_path), 0)


def test_the_configuration_selects_stream_mode_with_its_notice(folder: Path) -> None:
    chosen = DataConfig(root=str(folder.parent), mode="stream", val_split="train", stream_buffer=5, crop=16)
    shards = splits.open_training(chosen)
    assert "another number of processes" in shards.notes[0] and len(shards) == SAMPLES
    with loading.training_loader(PAIR, chosen, shards, SampleOrder(SAMPLES, 4, 3), steps=7) as loader:
        assert_same([batch for (batch,) in loader], batches(StreamedSet.open_stream(str(folder), 0)))
    assert not isinstance(splits.open_split(chosen, "train"), StreamedSet)
