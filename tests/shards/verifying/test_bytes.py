"""Every byte of a data set is seen: tar headers, padding, keys in a large table, and the files beside the shards."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from quell.shards import verify
from quell.shards.format import index
from quell.shards.reading.shard_set import ShardSet
from tests.support.mutations import mutate_bytes, mutate_tar
from tests.support.tars import flip, make_split


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_split(tmp_path / "d", split="train")
    make_split(tmp_path / "d", split="test")
    return tmp_path / "d"


def errors_after(root: Path) -> list[dict[str, str]]:
    return [finding for finding in verify.verify(root)["findings"] if finding["severity"] == "error"]


def tar_layout(path: Path) -> tuple[list[tarfile.TarInfo], int]:
    with tarfile.open(path) as opened:
        return opened.getmembers(), path.stat().st_size


def test_every_byte_of_a_tar_is_seen(data: Path) -> None:
    """Bits of headers, member data, padding and what follows the last member, in the middle of the shard too."""
    path = sorted((data / "train").glob("*.tar"))[0]
    intact = path.read_bytes()
    members, size = tar_layout(path)
    middle = members[len(members) // 2]
    places = [middle.offset + at for at in (0, 101, 110, 118, 137, 150, 156, 257, 300, 340, 500)]
    places += [middle.offset_data, middle.offset_data + middle.size - 1]
    json_member = next(member for member in members if member.name.endswith("json"))
    places += [json_member.offset_data + json_member.size, json_member.offset_data + 511]  # its padding
    places += [size - 1, size - 600]
    for place in places:
        flip(path, place)
        found = errors_after(data / "train")
        assert found and path.name in " ".join(finding["where"] + finding["says"] for finding in found), place
        path.write_bytes(intact)
    assert errors_after(data / "train") == []


def test_headers_changed_together_with_their_checksum_are_seen(data: Path) -> None:
    path = sorted((data / "train").glob("*.tar"))[0]
    intact = path.read_bytes()
    members, _ = tar_layout(path)
    for field, value in (("mtime", 99), ("uid", 7), ("uname", "other"), ("mode", 0o777), ("name", "other.noisy.npy")):
        member = next(member for member in members if member.name.endswith("noisy.npy"))
        before = getattr(member, field)
        setattr(member, field, value)
        header = member.tobuf(tarfile.GNU_FORMAT)[:512]
        setattr(member, field, before)
        path.write_bytes(intact[: member.offset] + header + intact[member.offset + 512 :])
        assert any(finding["kind"] == "shard" for finding in errors_after(data / "train")), field
        path.write_bytes(intact)


def test_an_older_index_says_what_cannot_be_checked_and_gets_checksums_by_repair(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = json.loads((data / "train" / index.HEADER).read_text())
    for shard in header["shards"]:
        del shard["crc"]
    index.write_header(data / "train", header)
    assert verify.main([str(data / "train")]) == 0
    assert "no checksums of whole shards" in capsys.readouterr().err
    assert verify.main([str(data / "train"), "--repair"]) == 0
    assert all("crc" in shard for shard in json.loads((data / "train" / index.HEADER).read_text())["shards"])


def test_every_byte_of_a_large_table_is_seen(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too large to be compared at every start is compared here: keys, too."""
    monkeypatch.setattr(index, "FULL_CHECK_BYTES", 64)
    monkeypatch.setattr(index.tar, "FINGERPRINT_BYTES", 64)
    verify.build_index(data / "train", meta={"data_range": 1.0})
    table = data / "train" / index.TABLE
    key = table.read_bytes().index(b"5-3")
    flip(table, key + 2)
    ShardSet.open(data / "train")  # the beginning and the end are as they were
    assert "does not belong" in errors_after(data / "train")[0]["says"]


def test_side_files_that_cannot_be_read_are_named(data: Path) -> None:
    damaged = {
        "build.json": b"{", "pairing.csv": b"\xff\xfe\x00", "dataset.md": b"\xff", "preview.png": b"\x89PNG broken",
        "deep.json": b"[" * 100_000,
    }  # fmt: skip
    for name, content in damaged.items():
        (data / name).write_bytes(content)
    (data / "val.partial").mkdir()
    findings = [finding for finding in verify.verify(data)["findings"] if finding["kind"] == "side file"]
    assert {Path(finding["where"]).name for finding in findings} == {*damaged, "val.partial"}
    assert verify.main([str(data)]) == 0 and verify.main([str(data), "--strict"]) == 4


@pytest.mark.parametrize("target", ["tar", "header", "table"])
def test_random_damage_is_always_reported(data: Path, target: str) -> None:
    split, random = data / "train", np.random.default_rng(3)
    path = {"tar": sorted(split.glob("*.tar"))[1], "header": split / index.HEADER, "table": split / index.TABLE}[target]
    intact = path.read_bytes()
    for _ in range(40):
        damaged = mutate_tar(intact, random) if target == "tar" else mutate_bytes(intact, random)
        if damaged == intact:
            continue
        path.write_bytes(damaged)
        report = verify.verify(split)
        assert report["errors"] or (target == "header" and json.loads(damaged) == json.loads(intact))
        assert not any("\n" in finding["says"] for finding in report["findings"])
