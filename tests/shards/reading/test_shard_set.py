"""Opening and reading splits: the right pixels, and a one-sentence error for everything wrong with tars or index."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from quell.configs.errors import DataError
from quell.shards.format import index, shard_files, tar
from quell.shards.reading.shard_set import ShardSet
from tests.support.tars import assert_refused, npy, write_tar

Open = Callable[..., ShardSet]
VALID = npy(np.ones((4, 4), "f4"))


def test_a_user_without_a_home_keeps_the_index_beside_the_tars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user has neither $HOME nor an entry in the password database."""
    monkeypatch.delenv("QUELL_CACHE", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    no_users: dict[int, str] = {}
    monkeypatch.setattr("pwd.getpwuid", no_users.__getitem__)
    assert index.locations(tmp_path) == [tmp_path]


def test_reading_returns_what_was_written(split: Open) -> None:
    shards = split(11)
    assert len(shards) == 11 and len(shards.shards) > 3 and shards.meta == {"data_range": 1.0}
    assert set(shards.fields) == {"pd", "pdfs", "pd_clean"}
    info = shards.fields["pd"]
    assert (info.dtype, info.shape, info.channels, info.count) == ("float32", (20, 24), 1, 11)
    for i in range(11):
        for place, field in enumerate(("pd", "pdfs", "pd_clean")):
            image = shards.read(i, field)
            assert image.dtype == np.float32 and tuple(image[0, :2]) == (i, place)
        assert shards.json(i) == {"number": i} and shards.key(i) == f"s{i:04d}" and shards.shape(i, "pd") == (20, 24)
    images = np.stack([shards.read(i, "pd") for i in range(11)])
    assert shards.statistics["pd"]["images"] == 11
    assert shards.statistics["pd"]["mean"] == pytest.approx(images.mean(), rel=1e-4)
    assert shards.statistics["pd"]["std"] == pytest.approx(images.std(), rel=1e-4)


def test_partial_and_direct_reads_agree(split: Open) -> None:
    shards = split(5)
    for i in range(5):
        image = shards.read(i, "pdfs")
        (member,) = shards.locate([i], "pdfs")
        assert np.array_equal(shards.read_rows(i, "pdfs", member, 7, 9), image[7:16])
        for verify in (True, False):
            out = np.empty((1, 20, 24), np.float32)
            assert shards.read_into(i, "pdfs", member, out, verify=verify) and np.array_equal(out[0], image)


def test_meta_json_beside_tars_of_other_programs(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"k.x.npy": npy(np.ones((4, 4), "f4"))})
    (tmp_path / "meta.json").write_text('{"data_range": 4095.0}')
    assert ShardSet.open(tmp_path).meta == {"data_range": 4095.0}


def test_index_goes_to_the_cache_when_the_folder_is_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data"
    write_tar(folder / "a.tar", {"k.x.npy": npy(np.ones((4, 4), "f4"))})
    monkeypatch.setenv("QUELL_CACHE", str(tmp_path / "cache"))
    write_files = index.write_files

    def refuse(place: Path, *rest: object) -> None:  # root may write anywhere, so the refusal is simulated
        if place == folder:
            raise PermissionError(13, "Permission denied")
        write_files(place, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(index, "write_files", refuse)
    assert len(ShardSet.open(folder)) == 1
    assert not (folder / "index.json").exists() and len(list((tmp_path / "cache").rglob("index.json"))) == 1
    assert len(ShardSet.open(folder, build_index=False)) == 1


def test_a_folder_without_shards_is_explained(tmp_path: Path) -> None:
    assert_refused(tmp_path / "none", "no such folder")
    assert_refused(tmp_path, "no .tar shards")
    write_tar(tmp_path / "train" / "a.tar", {"k.x.npy": npy(np.ones((4, 4), "f4"))})
    assert_refused(tmp_path, "splits train")
    (tmp_path / "a.tar.gz").write_bytes(b"")
    assert_refused(tmp_path, "a.tar.gz is compressed")
    with pytest.raises(DataError, match="have no index"):
        ShardSet.open(tmp_path / "train", build_index=False)


@pytest.mark.parametrize("size", [100, 700, 5000, 20_000])
def test_shards_truncated_before_indexing_are_refused(split: Open, size: int) -> None:
    folder = split(9).index_path
    for name in (index.HEADER, index.TABLE):
        (folder / name).unlink()
    shard = folder / "demo-000001.tar"
    os.truncate(shard, min(size, shard.stat().st_size - 1100))
    assert_refused(folder, "demo-000001.tar")


def test_a_tar_without_its_closing_zeros_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"k.x.npy": VALID})
    os.truncate(path, 1024)  # the header and the padded member, nothing else
    assert_refused(tmp_path, "a.tar", "truncated")


def test_changes_after_indexing_are_refused(split: Open, tmp_path: Path) -> None:
    folder = split(9).index_path
    backup = tmp_path / "backup"
    shutil.copytree(folder, backup)
    shard = folder / "demo-000001.tar"

    def restore() -> None:
        shutil.rmtree(folder)
        shutil.copytree(backup, folder)

    os.truncate(shard, shard.stat().st_size - 600)
    assert_refused(folder, "demo-000001.tar", "truncated or replaced", "--repair")
    restore()
    shard.unlink()
    assert_refused(folder, "demo-000001.tar", "missing")
    restore()
    shutil.copy(shard, folder / "extra.tar")
    assert_refused(folder, "extra.tar", "stale")
    restore()
    data = bytearray(shard.read_bytes())
    data[1500] ^= 1
    shard.write_bytes(data)
    assert_refused(folder, "demo-000001.tar", "changed since it was indexed")
    restore()
    shutil.copy(folder / "demo-000000.tar", shard)
    assert_refused(folder, "demo-000001.tar")
    restore()
    assert len(ShardSet.open(folder)) == 9


def test_a_flipped_bit_inside_a_large_shard_is_detected(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((200, 200)).astype("f4")
    shard = write_tar(tmp_path / "a.tar", {f"k{i}.x.npy": npy(image) for i in range(4)})
    ShardSet.open(tmp_path)
    data = bytearray(shard.read_bytes())
    data[200_000] ^= 1  # outside the first and last 64 KiB, which the fingerprint covers
    shard.write_bytes(data)
    assert_refused(tmp_path, "a.tar", "sample k1", "field x", "checksum")


def test_a_shard_truncated_while_open_is_refused(split: Open) -> None:
    shards = split(9)
    shards.read(0, "pd")
    os.truncate(shards.index_path / "demo-000000.tar", 1000)
    with pytest.raises(DataError, match=r"demo-000000.tar: truncated at byte"):
        shards.read(0, "pd")


def test_a_damaged_index_is_refused(split: Open) -> None:
    folder = split(9).index_path
    header, table = (folder / index.HEADER).read_text(), (folder / index.TABLE).read_bytes()
    for broken in (
        "",
        "{",
        "[]",
        header.replace('"version": 1', '"version": 9'),
        header.replace('"samples": 9', "1"),
        header.replace("quell shard", "other"),
        header.replace('"kinds"', '"kin"'),
    ):
        (folder / index.HEADER).write_text(broken)
        assert_refused(folder, "index.json")
    (folder / index.HEADER).write_text(header)
    for damaged in (b"", table[:-1], table[:100], table + b"x", table[:-40] + b"x" * 40):
        (folder / index.TABLE).write_bytes(damaged)
        assert_refused(folder, "index.npy")
    (folder / index.TABLE).unlink()
    assert_refused(folder, "index.npy", "missing")


def test_unknown_and_missing_fields_are_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"k.x.npy": VALID, "j.x.npy": VALID, "j.y.npy": VALID})
    shards = ShardSet.open(tmp_path)
    assert shards.fields["y"].count == 1 and shards.json(0) == {}
    with pytest.raises(DataError, match="no field 'z' in these shards; they hold x, y"):
        shards.read(0, "z")
    with pytest.raises(DataError, match="a.tar: sample k: field y is missing"):
        shards.read(0, "y")


def test_more_shards_than_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_files, "MAX_OPEN_FILES", 3)
    for i in range(9):
        write_tar(tmp_path / f"{i}.tar", {f"k{i}.x.npy": npy(np.full((4, 4), i, "f4"))})
    shards = ShardSet.open(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for i in (*range(9), *range(9)):
        assert (shards.read(i, "x") == i).all()
        assert len(os.listdir("/proc/self/fd")) <= before + 4
    shards.files.close()


def test_a_shard_that_changes_between_two_openings_is_detected(split: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards beyond the limit of open files are reopened often, but compared with the index again only if changed."""
    monkeypatch.setattr(shard_files, "MAX_OPEN_FILES", 1)
    comparisons: list[int] = []
    fingerprint = tar.fingerprint

    def counted(descriptor: int) -> tar.Fingerprint:
        comparisons.append(descriptor)
        return fingerprint(descriptor)

    monkeypatch.setattr(tar, "fingerprint", counted)
    shards = split(9)
    opened = len(comparisons)
    for number in (0, 1, 0, 1):
        shards.files.check(number)
    assert len(comparisons) == opened + 2
    path = shards.files.paths[0]
    content = bytearray(path.read_bytes())
    content[600] ^= 1
    path.write_bytes(content)
    os.utime(path, (1, 1))
    with pytest.raises(DataError, match="changed since it was indexed"):
        shards.files.check(0)
