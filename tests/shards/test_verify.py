"""Every planted fault is reported; an intact data set has none; --repair restores what can be restored."""

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quell.shards import inspect, verify
from quell.shards.format import index
from quell.shards.reading.shard_set import ShardSet
from tests.support.tars import flip, images, make_split

Fault = Callable[[Path], None]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_split(tmp_path / "d", split="train")
    make_split(tmp_path / "d", split="test")
    return tmp_path / "d"


def assert_reported(root: Path, kind: str, text: str) -> None:
    report = verify.verify(root)
    matching = [f for f in report["findings"] if f["kind"] == kind and text in f["where"] + " " + f["says"]]
    assert matching, report["findings"]
    assert not any("\n" in f["says"] for f in report["findings"])
    if matching[0]["severity"] == "error":
        assert verify.main([str(root)]) == 4
    assert verify.main([str(root), "--strict"]) == 4


def test_an_intact_data_set_has_no_defects(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main([str(data), "--report", str(tmp_path / "new" / "r.json"), "--strict"]) == 0
    report = json.loads((tmp_path / "new" / "r.json").read_text())
    assert report["splits"] == {"test": 8, "train": 8} and report["findings"] == []
    assert "0 errors, 0 warnings" in capsys.readouterr().out
    assert verify.main([str(data / "train")]) == 0
    assert verify.main([str(tmp_path / "none")]) == 4


def rewrite(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def unindexed(split: Path) -> None:
    (split / index.HEADER).unlink()
    (split / index.TABLE).unlink()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


TAR = "v-000001.tar"


def truncated(d: Path) -> None:
    os.truncate(d / "train" / TAR, 20_000)


def truncated_unindexed(d: Path) -> None:
    truncated(d)
    unindexed(d / "train")


def missing(d: Path) -> None:
    (d / "train" / TAR).unlink()


def extra(d: Path) -> None:
    rewrite(d / "train" / "w.tar", [("k.noisy.npy", npy(np.ones((4, 4), "f4")))])


def replaced(d: Path) -> None:
    (d / "train" / TAR).write_bytes((d / "train" / "v-000000.tar").read_bytes())


def pixel(d: Path) -> None:
    flip(d / "train" / TAR, 5000)


def header(d: Path) -> None:
    flip(d / "train" / TAR, 10, 4)


def index_json(d: Path) -> None:
    flip(d / "train" / index.HEADER, 5)


def index_table(d: Path) -> None:
    flip(d / "train" / index.TABLE, 400)


def version(d: Path) -> None:
    text = (d / "train" / index.HEADER).read_text()
    (d / "train" / index.HEADER).write_text(text.replace('"version": 1', '"version": 2'))


def twice(d: Path) -> None:
    rewrite(d / "train" / TAR, [("a.x.npy", npy(np.ones((4, 4), "f4")))] * 2)
    unindexed(d / "train")


def apart(d: Path) -> None:
    member = npy(np.ones((4, 4), "f4"))
    rewrite(d / "train" / TAR, [("a.x.npy", member), ("b.x.npy", member), ("a.y.npy", member)])
    unindexed(d / "train")


def pickled(d: Path) -> None:
    rewrite(d / "train" / TAR, [("a.x.npy", npy(np.array([{}], dtype=object)))])
    unindexed(d / "train")


def packed(d: Path) -> None:
    (d / "train" / TAR).write_bytes(b"\x1f\x8b" + bytes(600))
    unindexed(d / "train")


def undecodable(d: Path) -> None:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(file, "png")
    rewrite(d / "train" / TAR, [("a.noisy.png", file.getvalue()[:2000])])
    unindexed(d / "train")


def duplicate_key(d: Path) -> None:
    pair = [
        ("3-0.noisy.npy", npy(np.random.default_rng(1).random((48, 48)).astype("f4"))),
        ("3-0.clean.npy", npy(np.random.default_rng(2).random((48, 48)).astype("f4"))),
    ]
    for name in ("x.tar", "y.tar"):
        rewrite(d / "train" / name, pair)
    unindexed(d / "train")


@pytest.mark.parametrize(
    "fault,kind,text",
    [
        (truncated, "index", TAR),
        (truncated_unindexed, "shard", TAR),
        (missing, "index", TAR),
        (extra, "index", "w.tar"),
        (replaced, "shard", TAR),
        (pixel, "shard", TAR),
        (header, "shard", TAR),
        (index_json, "index", "index.json"),
        (index_table, "index", "index.npy"),
        (version, "index", "version 2"),
        (twice, "shard", "field x twice"),
        (apart, "shard", "not adjacent"),
        (pickled, "shard", "pickled objects"),
        (packed, "shard", "gzip"),
        (undecodable, "index", "a.noisy.png"),
        (duplicate_key, "duplicate key", "3-0"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_faults_in_files_are_reported(data: Path, fault: Fault, kind: str, text: str) -> None:
    fault(data)
    assert_reported(data, kind, text)


def set_pixel(value: float) -> Callable[[list[dict[str, Any]]], None]:
    def change(samples: list[dict[str, Any]]) -> None:
        samples[3]["noisy.npy"][1, 1] = value

    return change


def constant(samples: list[dict[str, Any]]) -> None:
    samples[3]["noisy.npy"][:] = 0


def other_type(samples: list[dict[str, Any]]) -> None:
    samples[3]["noisy.npy"] = samples[3]["noisy.npy"].astype(np.complex64)


def colour(samples: list[dict[str, Any]]) -> None:
    samples[3]["noisy.npy"] = np.stack([samples[3]["noisy.npy"]] * 3, axis=2)


def smaller(samples: list[dict[str, Any]]) -> None:
    samples[3]["noisy.npy"] = samples[3]["noisy.npy"][:40]


def incomplete(samples: list[dict[str, Any]]) -> None:
    del samples[3]["clean.npy"]


def swapped(samples: list[dict[str, Any]]) -> None:
    samples[3]["clean.npy"], samples[5]["clean.npy"] = samples[5]["clean.npy"], samples[3]["clean.npy"]


def copied(samples: list[dict[str, Any]]) -> None:
    samples[3]["noisy.npy"] = samples[5]["noisy.npy"]


@pytest.mark.parametrize(
    "change,kind,text",
    [
        (set_pixel(np.nan), "damaged image", "5-3"),
        (set_pixel(np.inf), "damaged image", "5-3"),
        (constant, "empty image", "5-3"),
        (other_type, "mixed types", "noisy"),
        (colour, "mixed types", "noisy"),
        (smaller, "size mismatch", "5-3"),
        (incomplete, "missing member", "clean"),
        (swapped, "doubtful pair", "5-3"),
        (copied, "same pixels twice", "5-5"),
    ],
)
def test_faults_in_samples_are_reported(
    tmp_path: Path, change: Callable[[list[dict[str, Any]]], None], kind: str, text: str
) -> None:
    make_split(tmp_path, change)
    assert_reported(tmp_path, kind, text)


def test_leaks_between_splits_are_reported(data: Path, tmp_path: Path) -> None:
    def shared_group(samples: list[dict[str, Any]]) -> None:
        samples[2]["json"]["group"] = "5-1"

    def shared_pixels(samples: list[dict[str, Any]]) -> None:
        samples[2]["clean.npy"] = images(5)[4]["clean.npy"]

    make_split(tmp_path / "g")
    make_split(tmp_path / "g", shared_group, "test")
    assert_reported(tmp_path / "g", "group in two splits", "5-1")
    make_split(tmp_path / "p")
    make_split(tmp_path / "p", shared_pixels, "test")
    assert_reported(tmp_path / "p", "pixels in two splits", "4-2.clean equals 5-4.clean")


@pytest.mark.parametrize("fault", [missing, extra, pixel, index_json, index_table, version])
def test_repair_rebuilds_the_index(data: Path, fault: Fault) -> None:
    fault(data)
    assert verify.main([str(data / "train")]) == 4
    assert verify.main([str(data / "train"), "--repair"]) in (0, 4)
    shards = ShardSet.open(data / "train")
    if fault is not index_json:
        assert shards.meta["sigma"] == 0.1  # the builder's notes are kept
    assert (verify.main([str(data / "train")]) == 0) == (fault is not extra)  # whose sample has one field only


def test_repair_refuses_a_truncated_shard(data: Path) -> None:
    truncated(data)
    assert verify.main([str(data / "train"), "--repair"]) == 4
    os.remove(data / "train" / TAR)
    assert verify.main([str(data / "train"), "--repair"]) == 0


def test_a_note_can_be_set_and_is_protected_by_the_checksum(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect.main([str(data), "--set", "data_range=4095", "--set", "licence=CC BY 4.0"]) == 0
    assert ShardSet.open(data / "test").meta == {"data_range": 4095, "sigma": 0.1, "licence": "CC BY 4.0"}
    text = (data / "test" / index.HEADER).read_text()
    (data / "test" / index.HEADER).write_text(text.replace("4095", "4096"))
    assert_reported(data, "index", "checksum")
    assert inspect.main([str(data / "train"), "--set", "nonsense"]) == 2
    assert "expected KEY=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("note", "message"),
    [
        ("data_rnage=4095", "did you mean 'data_range'?"),
        ("author=me", "known: data_range, licence, noise, sigma, source"),
        ("plan=0", "known: data_range"),  # how a build recognises its own work
        ("data_range=wide", "expected a number above 0"),
        ("data_range=0", "expected a number above 0"),
        ("data_range=true", "expected a number above 0"),
    ],
)
def test_an_invalid_note_is_refused(data: Path, capsys: pytest.CaptureFixture[str], note: str, message: str) -> None:
    before = (data / "test" / index.HEADER).read_bytes()
    assert inspect.main([str(data), "--set", "licence=MIT", "--set", note]) == 2
    printed = capsys.readouterr().err
    assert f"--set {note}: " in printed and message in printed
    assert (data / "test" / index.HEADER).read_bytes() == before


def test_inspect_prints_a_description_and_writes_a_preview(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect.main([str(data), "--preview", str(tmp_path / "p.png")]) == 0
    printed = capsys.readouterr().out
    assert (
        "train: 8 samples" in printed
        and "sigma: 0.1" in printed
        and "[2] 4-2: clean (48, 48), noisy (48, 48)" in printed
    )
    from PIL import Image

    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size == (96, 192) or picture.size[0] == 320
    assert inspect.main([str(tmp_path / "none")]) == 4
    assert inspect.main([str(data), "--preview", str(tmp_path / "no" / "p.png")]) == 6


def test_pipes_are_reported_instead_of_waited_for(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(data / "train" / "notes.txt")
    assert_reported(data, "side file", "notes.txt: not a regular file")
    os.mkfifo(data / "train" / "x.tar")
    assert verify.main([str(data)]) == 4
    assert "x.tar: not a regular file" in capsys.readouterr().err
