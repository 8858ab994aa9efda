"""Repeats of one contrast become pairs of noisy copies with one scale; whatever is no repeat is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from quell.losses.noise.estimate import estimate_noise
from quell.shards import build
from quell.shards.reading.shard_set import ShardSet
from tests.shards.image_files.dicom_files import PICTURE, write_dicom

Samples = dict[str, dict[str, Any]]
SIGMA = 0.05


def run(*arguments: object) -> int:
    return build.main([*map(str, arguments), "--split", "1,0,0", "--seed", "0"])


def read_all(root: Path) -> Samples:
    """Key -> fields and notes."""
    shards = ShardSet.open(root / "train")
    return {
        shards.key(i): {"notes": shards.json(i), **{name: shards.read(i, name) for name in shards.fields}}
        for i in range(len(shards))
    }


def left_out(root: Path, kind: str) -> list[str]:
    """The names in the report of the build."""
    report = json.loads((root / "build.json").read_text())
    return [entry["what"] for entry in report["left_out"]["entries"] if entry["kind"] == kind]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    def check(code: int, arguments: list[object], *messages: str) -> None:
        assert run(*arguments) == code
        error = capsys.readouterr().err
        assert all(message in error for message in messages) and "Traceback" not in error, error

    return check


def write_nifti(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.astype(np.float32), np.diag([1.0, 1, 3, 1])), path)


def repeats(count: int, seed: int = 0, shape: tuple[int, ...] = (16, 14, 3)) -> np.ndarray:
    """A noisy volume `count` times, (X, Y, Z, T)."""
    random = np.random.default_rng(seed)
    smooth = 0.5 + 0.3 * np.sin(np.linspace(0, 3, shape[0]))[:, None, None] * np.ones(shape)
    return np.asarray(smooth[..., None] + SIGMA * random.standard_normal((*shape, count)))


def nifti(root: Path, *more: object) -> list[object]:
    return ["nifti", "--field", f"noisy={root}/in", "--repeats", "--output", root / "out", *more]


def test_repeats_in_a_nifti_file_become_pairs_with_one_scale(tmp_path: Path) -> None:
    """Five repeats: two pairs, and the last is named; the second pair is brighter by less than chance would explain."""
    array = repeats(5)
    array[..., 3] *= 1.05
    write_nifti(tmp_path / "in" / "sub-1.nii.gz", array)
    assert run(*nifti(tmp_path)) == 0
    samples = read_all(tmp_path / "out")
    assert sorted(samples) == [f"sub-1-r{first:02d}-{z:03d}" for first in (0, 2) for z in range(3)]
    for key, sample in samples.items():
        (first, second), z, scales = sample["notes"]["repeats"], sample["notes"]["slice"], sample["notes"]["scales"]
        assert key == f"sub-1-r{first:02d}-{z:03d}" and second == first + 1 and sample["notes"]["group"] == "sub-1"
        assert scales["noisy"] == scales["noisy_second"]
        assert np.isclose(scales["noisy"], np.percentile(np.abs(array[..., [first, second]]), 99.5), rtol=1e-5)
        assert np.allclose(sample["noisy"] * scales["noisy"], array[:, :, z, first], rtol=1e-5)
        assert np.allclose(sample["noisy_second"] * scales["noisy"], array[:, :, z, second], rtol=1e-5)
    (named,) = left_out(tmp_path / "out", "repeat without partner")
    assert "sub-1: noisy: volume 4 of" in named and named.endswith("sub-1.nii.gz")


def test_repeats_of_two_contrasts_pair_up_to_the_shorter_one(tmp_path: Path) -> None:
    for name, count in (("pd", 4), ("pdfs", 2)):
        array = repeats(count)
        array[:, :, 0] = 0  # a dark slice
        write_nifti(tmp_path / name / "a.nii", array)
    fields = ["--field", f"pd={tmp_path}/pd", "--field", f"pdfs={tmp_path}/pdfs", "--axis", "2"]
    assert run("nifti", *fields, "--repeats", "--output", tmp_path / "out") == 0
    samples = read_all(tmp_path / "out")
    assert sorted(samples) == ["a-r00-001", "a-r00-002"]
    assert {"pd", "pd_second", "pdfs", "pdfs_second"} < set(samples["a-r00-001"])
    assert [name.partition(" of ")[0] for name in left_out(tmp_path / "out", "repeat without partner")] == [
        "a: pd: volume 2",
        "a: pd: volume 3",
    ]
    assert left_out(tmp_path / "out", "dark slice") == ["a-r00-000"]


def test_half_the_covariance_of_the_differences_is_that_of_the_noise(tmp_path: Path) -> None:
    write_nifti(tmp_path / "in" / "a.nii", repeats(4, shape=(64, 64, 4)))
    assert run(*nifti(tmp_path, "--keep-units", "--data-range", 1)) == 0
    samples = list(read_all(tmp_path / "out").values())
    first, second = ([sample[name] for sample in samples] for name in ("noisy", "noisy_second"))
    differences = np.stack(first) - np.stack(second)
    assert np.isclose(np.sqrt(differences.var() / 2), SIGMA, rtol=0.03)
    estimate = estimate_noise(first, second=second)
    assert estimate.source == "repeats" and np.isclose(estimate.noise.sigma, SIGMA, rtol=0.03)


def test_nifti_files_that_hold_no_repeats_are_refused(tmp_path: Path, refused: Callable[..., None]) -> None:
    array = repeats(2)
    write_nifti(tmp_path / "in" / "a.nii", array)
    single = ["nifti", "--field", f"noisy={tmp_path}/in", "--output", tmp_path / "out"]
    refused(4, single, "a.nii: expected a single volume with 3 axes, got shape (16, 14, 3, 2)", "--repeats makes pairs")
    double = ["--field", f"noisy_second={tmp_path}/in"]
    refused(2, nifti(tmp_path, *double), "--field noisy_second: --repeats makes this field from the repeats of noisy")
    array[..., 1] *= 0.7  # another echo
    write_nifti(tmp_path / "in" / "a.nii", array)
    refused(4, nifti(tmp_path), "a-r00: the repeats of noisy differ in brightness", "no repeats of one contrast")
    for volume in (array[..., 0], array[..., :1]):
        write_nifti(tmp_path / "in" / "a.nii", volume)
        refused(4, nifti(tmp_path), "a.nii: --repeats expects a series of volumes with 4 axes", f"shape {volume.shape}")


def write_series(root: Path, repeat: int, patient: str = "P1", folder: str = "in", **tags: Any) -> None:
    """Two slices that differ between repeats, in one series with other temporal positions unless tags say otherwise."""
    own: dict[str, Any] = {"PatientID": patient, "TemporalPositionIdentifier": repeat, "EchoNumbers": 1, **tags}
    for z in range(2):
        image = PICTURE + np.uint16(repeat + 5 * z)
        write_dicom(root / folder / f"{patient}-{repeat}-{z}.dcm", image, 3.0 * z, **own)


def dicom(root: Path, *more: object) -> list[object]:
    return ["dicom", "--field", f"noisy={root}/in", "--repeats", "--output", root / "out", *more]


@pytest.mark.parametrize("told_apart_by", ["temporal position", "acquisition", "series"])
def test_dicom_series_of_one_contrast_become_pairs(tmp_path: Path, told_apart_by: str) -> None:
    """In numerical order, so that repeat 10 follows 9; the odd one is named."""
    for patient in ("P1", "P2"):
        for repeat in (1, 2, 9, 10, 11):
            tags: dict[str, Any] = {"TemporalPositionIdentifier": None}
            if told_apart_by == "temporal position":
                tags = {}
            elif told_apart_by == "acquisition":
                tags["AcquisitionNumber"] = repeat
            else:
                tags["SeriesInstanceUID"] = f"1.2.{repeat}"
            write_series(tmp_path, repeat, patient, **tags)
    assert run(*dicom(tmp_path)) == 0
    samples = read_all(tmp_path / "out")
    assert sorted(samples) == [f"{p}-r{first:02d}-{z:03d}" for p in ("P1", "P2") for first in (0, 2) for z in range(2)]
    for key, sample in samples.items():
        notes = sample["notes"]
        scales, z = notes["scales"], notes["slice"]
        first, second = {(0, 1): (1, 2), (2, 3): (9, 10)}[tuple(notes["repeats"])]
        assert notes["group"] == key[:2] and scales["noisy"] == scales["noisy_second"]
        assert np.allclose(sample["noisy"] * scales["noisy"], PICTURE + first + 5 * z, rtol=1e-5)
        assert np.allclose(sample["noisy_second"] * scales["noisy"], PICTURE + second + 5 * z, rtol=1e-5)
        assert set(notes["series"]) == {"noisy", "noisy_second"}
    named = left_out(tmp_path / "out", "repeat without partner")
    assert len(named) == 2 and all("11" in name for name in named)


@pytest.mark.parametrize(
    ("tags", "messages"),
    [
        ({"EchoNumbers": 2}, ["no repeats of one contrast: echo 1 in", "--series 'noisy=TEXT'"]),
        ({"EchoTime": 80}, ["EchoTime 30.0 in", "80.0 in"]),
        ({"ScanOptions": "FS"}, ["ScanOptions PFP in"]),
        ({"PixelSpacing": [0.5, 0.5]}, ["noisy and noisy_second do not show the same places: spacing"]),
        ({"folder": "in/again"}, ["in several sub-folders (", "--patient-by id"]),
    ],
    ids=str,
)
def test_dicom_series_that_are_no_repeats_are_refused(
    tmp_path: Path, refused: Callable[..., None], tags: dict[str, Any], messages: list[str]
) -> None:
    common: dict[str, Any] = {"EchoTime": 30, "ScanOptions": "PFP", "folder": "in/once"}
    write_series(tmp_path, 1, **common)
    refused(4, dicom(tmp_path), "patient P1: noisy has a single series")
    write_series(tmp_path, 2, **{**common, **tags})
    refused(4, dicom(tmp_path), *messages)
    if "folder" in tags:
        assert run(*dicom(tmp_path, "--patient-by", "id")) == 0 and len(read_all(tmp_path / "out")) == 2


def test_dicom_repeats_that_lie_elsewhere_pair_by_position(tmp_path: Path) -> None:
    """The second repeat was stopped after one slice."""
    write_series(tmp_path, 1)
    write_series(tmp_path, 2)
    (tmp_path / "in" / "P1-2-1.dcm").unlink()
    assert run(*dicom(tmp_path)) == 0 and list(read_all(tmp_path / "out")) == ["P1-r00-000"]
    assert left_out(tmp_path / "out", "slice without partner") == [str(tmp_path / "in" / "P1-1-1.dcm")]
