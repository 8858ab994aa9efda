"""The data range of a build: refused where the images contradict it, or taken from the files."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from quell.configs.errors import DataError
from quell.shards import build
from quell.shards.building.declared_range import settle
from quell.shards.building.items import Sample, WorkItem
from quell.shards.reading.shard_set import ShardSet

SMOOTH = np.kron(np.random.default_rng(0).random((8, 8)), np.ones((8, 8)))


def write(folder: Path, make: Callable[[int], np.ndarray], count: int = 4) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        np.save(folder / f"i{number}.npy", make(number))


def run(folder: Path, *more: str) -> int:
    words = ["folder", f"--field=noisy={folder}", "--split=1,0,0", "--output", str(folder) + "-out", *more]
    return build.main(words)


@pytest.mark.parametrize(
    ("make", "declared", "told"),
    [
        (lambda n: (SMOOTH * 255).astype("u1"), "255", "declare --data-range 1,"),
        (lambda n: (SMOOTH * 4000).astype("u2"), "1", "declare --data-range 0.0624857,"),
        (lambda n: (SMOOTH * 4000).astype("f4"), "1", "declare --data-range 4000,"),
    ],
)
def test_a_contradicted_range_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[int], np.ndarray], declared: str, told: str
) -> None:
    write(tmp_path / "in", make)
    assert run(tmp_path / "in", "--data-range", declared) == 4
    error = capsys.readouterr().err
    assert f"noisy: the images contradict the data range {declared}: " in error and told in error
    assert error.count("\n") == 1 and not (tmp_path / "in-out").exists()
    value = told.split()[-1].rstrip(",")
    assert run(tmp_path / "in", "--data-range", value) == 0
    assert ShardSet.open(tmp_path / "in-out" / "train").meta["data_range"] == float(value)


def test_it_may_be_kept_on_request(tmp_path: Path) -> None:
    write(tmp_path / "in", lambda n: (SMOOTH * 4000).astype("u2"))
    assert run(tmp_path / "in", "--data-range", "1", "--trust-data-range") == 0
    assert ShardSet.open(tmp_path / "in-out" / "train").meta["data_range"] == 1.0
    assert run(tmp_path / "in", "--data-range", "1") == 4


def test_auto_takes_whole_numbers_by_their_bits_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in", lambda n: (SMOOTH * 3900).astype("u2"))
    assert run(tmp_path / "in", "--data-range", "auto") == 0
    assert "data range: 0.0624857 (whole numbers up to 3,8" in capsys.readouterr().out
    report = json.loads((tmp_path / "in-out" / "build.json").read_text())
    assert report["data_range"] == 4095 / 65535 and "12 bits" in report["data_range_from"]
    assert "- data_range_from: " in (tmp_path / "in-out" / "dataset.md").read_text()


def test_auto_refuses_floats_that_state_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in", lambda n: (SMOOTH * 7.3).astype("f4"))
    assert run(tmp_path / "in", "--data-range", "auto") == 4
    assert "do not state the range of their values; they hold values from" in capsys.readouterr().err


def test_one_file_on_another_scale_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in", lambda n: (SMOOTH * (255 if n == 7 else 1)).astype("f4"), count=30)
    assert run(tmp_path / "in") == 4
    assert "sample i7: noisy usually reaches 25" in capsys.readouterr().err


def item(number: int, stated: tuple[float, str] | None) -> WorkItem:
    sample = Sample.of_arrays(f"s{number}", {"noisy": SMOOTH.astype("f4")}, suggested_range=stated)
    return WorkItem(f"s{number}", f"s{number}", lambda: [sample], (Path(f"s{number}"),))


def test_auto_prefers_what_the_files_state_and_refuses_that_they_disagree() -> None:
    meta, _ = settle({"data_range": "auto"}, {"train": [item(n, (2.5, "a window of 2.5")) for n in range(3)]})
    assert meta == {"data_range": 2.5, "data_range_from": "a window of 2.5"}
    mixed = [item(0, (1.0, "8 bits")), item(1, (4095.0, "12 bits stored"))]
    with pytest.raises(DataError, match=r"different ranges, 1 .8 bits, s0. and 4095 .12 bits stored, s1."):
        settle({"data_range": "auto"}, {"train": mixed})


def test_windowed_and_generated_images_are_not_looked_at() -> None:
    generated = WorkItem("a", "a", lambda: pytest.fail("loaded"))
    assert settle({"data_range": 1.0}, {"train": [generated]}) == ({"data_range": 1.0}, None)
    windowed = WorkItem("a", "a", lambda: pytest.fail("loaded"), (Path("a"),))
    meta: dict[str, object] = {"data_range": 1.0, "window_hu": [0, 1]}
    assert settle(meta, {"train": [windowed]}) == (meta, None)


def test_auto_passes_over_a_stated_range_that_the_values_contradict() -> None:
    whole = np.rint(SMOOTH * 3000 - 1000).astype("f4")
    sample = Sample.of_arrays("s", {"pd": whole}, suggested_range=(400.0, "the range to display"))
    narrow = WorkItem("s", "s", lambda: [sample], (Path("s"),))
    meta, _ = settle({"data_range": "auto"}, {"train": [narrow]})
    assert meta["data_range"] == 3000 and str(meta["data_range_from"]).startswith("values from -")


@pytest.mark.parametrize("slope", [1.0, 0.001])
def test_hounsfield_units_of_nifti_volumes_are_refused_or_kept_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], slope: float
) -> None:
    for name in ("pd", "pdfs"):
        (tmp_path / name).mkdir()
        stored = np.rint(np.repeat(SMOOTH[..., None], 4, 2) * 2500 - 1000).astype("i2")
        volume = nibabel.Nifti1Image(stored, np.eye(4))
        volume.header.set_slope_inter(slope, 0)
        nibabel.save(volume, tmp_path / name / "a.nii")
    fields = [f"--field={name}={tmp_path / name}" for name in ("pd", "pdfs")]
    words = ["nifti", *fields, "--split=1,0,0", "--output", str(tmp_path / "out")]
    assert build.main(words) == 4
    told = capsys.readouterr().err
    assert "pd: the images contradict the data range 1: the values are signed" in told and "--keep-units" in told
    if slope == 1:
        assert build.main([*words, "--keep-units"]) == 0
        meta = ShardSet.open(tmp_path / "out" / "train").meta
        assert meta["data_range"] == 2500 and meta["units"] == "those of the files"
    else:
        assert build.main([*words, "--keep-units"]) == 4
        assert "do not state the range" in capsys.readouterr().err
        assert build.main([*words, "--keep-units", "--data-range", "2.5"]) == 0


def test_a_source_that_adds_noise_asks_for_images_in_its_range(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in", lambda n: (SMOOTH * 4000).astype("f4"))
    assert build.main(["awgn", "--train", str(tmp_path / "in"), "--output", str(tmp_path / "out")]) == 4
    told = capsys.readouterr().err
    assert "bring them to a range of 1" in told and "declare" not in told
