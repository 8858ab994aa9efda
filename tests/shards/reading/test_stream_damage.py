"""A damaged shard in stream mode: refused by name before a sample of it is used, or with what is said beforehand."""

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quell.configs.errors import DataError
from quell.configs.fields import Source
from quell.shards.building.writer import write_split
from quell.shards.format import index
from quell.shards.reading.order import SampleOrder
from quell.shards.reading.recipe import Recipe
from quell.shards.reading.shard_set import ShardSet
from quell.shards.reading.streaming import StreamedSet, StreamLoader
from tests.support.mutations import flip_bit, mutate_tar

SAMPLES = 12
ONE = Recipe({"a": Source()}, crop=32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One shard of twelve images, most of which lie between its first and its last 64 KiB."""
    random = np.random.default_rng(0)
    samples = [
        {"__key__": f"s{number:02}", "a.npy": random.random((64, 64)).astype("f4"), "json": {"group": str(number)}}
        for number in range(SAMPLES)
    ]
    write_split(tmp_path / "train", samples, name="s", meta={})
    (tar,) = (tmp_path / "train").glob("*.tar")
    assert tar.stat().st_size > 200_000
    return tmp_path / "train"


def place_of(folder: Path, member: str) -> tuple[Path, tarfile.TarInfo]:
    (path,) = folder.glob("*.tar")
    with tarfile.open(path) as opened:
        return path, opened.getmember(member)


def flip_pixel(folder: Path) -> None:
    """One bit of the sixth image, which no fingerprint covers."""
    path, member = place_of(folder, "s05.a.npy")
    data = path.read_bytes()
    middle = member.offset_data + member.size // 2
    assert 65536 < middle < len(data) - 65536
    path.write_bytes(flip_bit(data, np.random.default_rng(1), first=middle, last=middle + 1))


def change_header(folder: Path, **fields: int | bytes) -> None:
    """Change the tar header of the sixth image, and its checksum with it."""
    path, member = place_of(folder, "s05.a.npy")
    data = bytearray(path.read_bytes())
    for name, value in fields.items():
        setattr(member, name, value)
    data[member.offset : member.offset + 512] = member.tobuf(tarfile.GNU_FORMAT)[:512]
    path.write_bytes(data)


def without_checksums(folder: Path) -> None:
    """The index as earlier versions wrote it."""
    header: Any = json.loads((folder / index.HEADER).read_text())
    for shard in header["shards"]:
        del shard["crc"]
    index.write_header(folder, header)


def used(folder: Path, verify: Any, epochs: int = 1) -> list[tuple[str, bytes]]:
    """Keys and pixels of the samples that reach training."""
    result: list[tuple[str, bytes]] = []
    shards = StreamedSet.open_stream(str(folder), 0)
    order = SampleOrder(SAMPLES, 2, 1)
    with StreamLoader(shards, order, ONE, buffer=2, steps=6 * epochs, verify=verify, prefetch=1) as loader:
        for (batch,) in loader:
            result += zip(batch["key"], (image.tobytes() for image in batch["a"].numpy()), strict=True)
    return result


@pytest.mark.parametrize("verify", ["first", "always"])
@pytest.mark.parametrize("old_index", [False, True])
def test_a_damaged_sample_is_refused_before_it_is_used(folder: Path, verify: str, old_index: bool) -> None:
    if old_index:
        without_checksums(folder)
    keys = {key for key, _ in used(folder, verify)}
    assert len(keys) == SAMPLES
    flip_pixel(folder)
    seen: list[str] = []
    with pytest.raises(DataError, match="s-000000.tar: sample s05: field a is damaged: its checksum differs"):
        shards = StreamedSet.open_stream(str(folder), 0)
        with StreamLoader(shards, SampleOrder(SAMPLES, 2, 1), ONE, buffer=2, verify=verify) as loader:  # type: ignore[arg-type]
            for (batch,) in loader:
                seen += batch["key"]
    assert "s05" not in seen


def test_verify_never_compares_nothing(folder: Path) -> None:
    flip_pixel(folder)
    assert len(used(folder, "never")) == SAMPLES


def test_a_renamed_sample_is_refused(folder: Path) -> None:
    change_header(folder, name="s99.a.npy")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"'s99' where the index has s05|field a is missing"):
        used(folder, "first")


def test_a_changed_header_is_noticed_at_the_end_of_the_shard(folder: Path) -> None:
    change_header(folder, mtime=77)
    with pytest.raises(DataError, match="what was read is not what the index lists"):
        used(folder, "first", epochs=2)


def test_what_cannot_be_checked_is_said(folder: Path) -> None:
    assert "before it is used" in StreamedSet.open_stream(str(folder), 0).notes[0]
    (folder / index.TABLE).unlink()
    assert "noticed at its end only" in StreamedSet.open_stream(str(folder), 0).notes[0]
    flip_pixel(folder)
    with pytest.raises(DataError, match="what was read is not what the index lists"):
        used(folder, "first", epochs=2)
    without_checksums(folder)
    assert "is not noticed; run python -m shards.verify" in StreamedSet.open_stream(str(folder), 0).notes[0]
    assert len(used(folder, "first")) == SAMPLES


def test_a_table_of_another_index_is_refused(folder: Path) -> None:
    data = (folder / index.TABLE).read_bytes()
    (folder / index.TABLE).write_bytes(flip_bit(data, np.random.default_rng(0), first=10, last=90))
    with pytest.raises(DataError, match="index.npy: does not belong to index.json beside it"):
        StreamedSet.open_stream(str(folder), 0)


def test_randomly_damaged_shards_never_reach_training(folder: Path) -> None:
    expected = dict(used(folder, "first"))
    (path,) = folder.glob("*.tar")
    intact, random, refused = path.read_bytes(), np.random.default_rng(5), 0
    for _ in range(60):
        path.write_bytes(mutate_tar(intact, random))
        shards = StreamedSet.open_stream(str(folder), 0)
        try:
            with StreamLoader(shards, SampleOrder(SAMPLES, 2, 1), ONE, buffer=2, steps=6, prefetch=1) as loader:
                for (batch,) in loader:
                    for key, image in zip(batch["key"], batch["a"].numpy(), strict=True):
                        assert expected[key] == image.tobytes()
        except DataError as error:
            refused += 1
            assert "\n" not in str(error) and "s-000000.tar" in str(error)
    assert refused > 40


def test_indexed_mode_reads_old_and_new_indexes_alike(folder: Path) -> None:
    new = ShardSet.open(folder)
    assert isinstance(new.shards[0]["crc"], int)
    without_checksums(folder)
    old = ShardSet.open(folder)
    assert "crc" not in old.shards[0] and np.array_equal(old.read(3, "a"), new.read(3, "a"))
