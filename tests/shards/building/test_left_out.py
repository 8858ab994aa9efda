"""What a build leaves out: counted, named, written down, kept over an interruption, and refused by --strict."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from quell.configs.errors import DataError
from quell.shards import build
from quell.shards.building import split_build
from quell.shards.reading.shard_set import ShardSet


def images(folder: Path, names: str, suffix: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names.split()):
        values = np.full((20, 20), 200, np.uint8)
        values[0, 0] = number
        Image.fromarray(values).save(folder / f"{name}{suffix}")


def volumes(folder: Path, count: int, *, dark: int) -> None:
    """NIfTI subjects of six slices, the last `dark` of which are black."""
    for contrast in ("pd", "pdfs"):
        (folder / contrast).mkdir(parents=True)
        for subject in range(count):
            values = np.random.default_rng(subject).uniform(1, 2, (24, 24, 6)).astype(np.float32)
            values[..., 6 - dark :] = 0
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / contrast / f"sub-{subject}.nii")


def words(folder: Path, *more: str) -> list[str]:
    fields = [f"--field=pd={folder / 'pd'}", f"--field=pdfs={folder / 'pdfs'}"]
    return ["nifti", *fields, "--split=1,0,0", "--workers=2", *more, "--output"]


def test_left_out_files_are_named_on_the_screen_in_the_card_and_in_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images(tmp_path / "in", "a b c")
    images(tmp_path / "gt", "a b d")
    (tmp_path / "in" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "in" / "sub").mkdir()
    (tmp_path / "gt" / "e.png").symlink_to(tmp_path / "gone.png")
    command = ["folder", f"--field=noisy={tmp_path / 'in'}", f"--field=clean={tmp_path / 'gt'}", "--split=1,0,0"]
    command += ["--allow-missing", "--output", str(tmp_path / "out")]
    assert build.main([*command, "--strict"]) == 4
    refused = capsys.readouterr().err
    assert build.main([*command, "--strict", "--dry-run"]) == 4 and capsys.readouterr().err == refused
    assert "1 broken link: " in refused and "gt/e.png (to " in refused and "1 sub-folder: " in refused
    assert not (tmp_path / "out").exists() and ".DS_Store" not in refused
    assert build.main(command) == 0
    told = capsys.readouterr()
    assert "warning: left out: 2 files without partner: " in told.err and "in/c.png (no clean image for c)" in told.err
    assert "left out: 1 junk file: " in told.out
    report = json.loads((tmp_path / "out" / "build.json").read_text())
    assert report["left_out"]["counts"] == {
        "file without partner": 2,
        "broken link": 1,
        "junk file": 1,
        "sub-folder": 1,
    }
    assert report["left_out"]["harmless"] == ["junk file"] and report["splits"]["train"]["samples"] == 2
    card = (tmp_path / "out" / "dataset.md").read_text()
    assert "## Left out" in card and "- 2 files without partner: " in card
    assert build.main(command) == 0  # complete already: the report stays
    assert json.loads((tmp_path / "out" / "build.json").read_text()) == report


def test_dark_slices_are_named_and_strict_refuses_them_without_losing_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volumes(tmp_path, 2, dark=2)
    output = tmp_path / "out"
    assert build.main([*words(tmp_path, "--strict"), str(output)]) == 4
    assert "4 dark slices: sub-0-004 (content of pd 0.000, less than 0.05)" in capsys.readouterr().err
    assert not (output / "train").exists()
    written = {path.name: path.stat().st_mtime_ns for path in (output / "train.partial").glob("*.tar")}
    assert build.main([*words(tmp_path), str(output)]) == 0
    assert {path.name: path.stat().st_mtime_ns for path in (output / "train").glob("*.tar")} == written
    entries = json.loads((output / "build.json").read_text())["left_out"]["entries"]
    assert [entry["what"] for entry in entries] == ["sub-0-004", "sub-0-005", "sub-1-004", "sub-1-005"]
    assert {entry["split"] for entry in entries} == {"train"}
    assert ShardSet.open(output / "train").meta["left_out"] == {"dark slice": 4}
    (output / "build.json").unlink()
    assert build.main([*words(tmp_path), str(output)]) == 0  # a complete split still knows
    assert json.loads((output / "build.json").read_text())["left_out"]["entries"] == entries
    assert build.main([*words(tmp_path, "--strict"), str(output)]) == 4
    assert build.main([*words(tmp_path, "--least-content=0", "--strict"), str(tmp_path / "all")]) == 0


def test_the_account_is_complete_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volumes(tmp_path, 5, dark=2)
    command = words(tmp_path, "--shard-mb=0.012")
    assert build.main([*command, str(tmp_path / "whole")]) == 0
    assert len(list((tmp_path / "whole" / "train").glob("*.tar"))) > 5
    finished = split_build.SplitBuild._on_shard_done

    def interrupt(self: split_build.SplitBuild, shard: Path) -> None:
        finished(self, shard)
        if shard.name.endswith("3.tar") and not self.failed:
            raise KeyboardInterrupt

    for _ in range(2):
        monkeypatch.setattr(split_build.SplitBuild, "_on_shard_done", interrupt)
        assert build.main([*command, str(tmp_path / "resumed")]) in (0, 130)
        monkeypatch.undo()
    assert build.main([*command, str(tmp_path / "resumed")]) == 0
    whole, resumed = (json.loads((tmp_path / name / "build.json").read_text()) for name in ("whole", "resumed"))
    assert resumed == whole and whole["left_out"]["counts"] == {"dark slice": 10}


def test_nan_names_file_slice_and_place_and_damaged_input_is_skipped_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(4):
        values = np.random.default_rng(number).uniform(0, 1, (20, 20)).astype(np.float32)
        if number == 3:
            values[3, 7] = np.nan
        np.save(folder / f"i{number}.npy", values)
    (folder / "i2.npy").write_bytes(b"\x93NUMPY nothing")
    command = ["folder", f"--field=noisy={folder}", "--split=1,0,0", "--workers=1", "--output"]
    assert build.main([*command, str(tmp_path / "out")]) == 4
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "i2.npy" in error
    (folder / "i2.npy").unlink()
    assert build.main([*command, str(tmp_path / "out")]) == 4
    error = capsys.readouterr().err
    assert "i3.npy" in error and "row 3, column 7 is NaN" in error
    (folder / "i2.npy").write_bytes(b"\x93NUMPY nothing")
    assert build.main([*command, str(tmp_path / "out"), "--skip-damaged"]) == 0
    counts = json.loads((tmp_path / "out" / "build.json").read_text())["left_out"]["counts"]
    assert sum(counts.values()) == 2 and len(ShardSet.open(tmp_path / "out" / "train")) == 2
    assert build.main([*command, str(tmp_path / "strict"), "--skip-damaged", "--strict"]) == 4


def test_every_kind_of_exception_in_a_worker_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from quell.shards.sources import phantom

    for error, code in (
        (RuntimeError("decoder"), 4),
        (IndexError("place"), 4),
        (MemoryError(), 6),
        (DataError("x"), 4),
    ):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(phantom, "_load", fail)
        counts = ["--train=3", "--val=0", "--test=0", "--size=32"]
        assert build.main(["phantom", *counts, "--output", str(tmp_path / "out")]) == code
        told = capsys.readouterr().err
        assert told.startswith("error: ") and told.count("\n") == 1
