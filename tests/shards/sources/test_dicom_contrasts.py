"""Building pairs from DICOM folders as people really have them: the right pairs, or a refusal with the numbers."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quell.shards.reading.shard_set import ShardSet
from tests.shards.image_files.dicom_files import PICTURE, make_dicom, write_dicom, write_enhanced
from tests.shards.sources.two_contrasts import build_contrasts, built_samples

run = partial(build_contrasts, "dicom")


def write_pair(root: Path, z: float, name: str = "", both: dict[str, Any] | None = None, **second: Any) -> None:
    """One slice of either contrast at z, the second with other tags."""
    write_dicom(root / "pd" / f"{name}{z:g}.dcm", PICTURE, z, **(both or {}))
    tags = {**(both or {}), **second}
    write_dicom(root / "pdfs" / f"{name}{z:g}.dcm", tags.pop("image", PICTURE * 2), z, **tags)


def refused(root: Path, capsys: pytest.CaptureFixture[str], *messages: str, more: tuple[str, ...] = ()) -> None:
    assert run(root, *more) == 4
    error = capsys.readouterr().err
    for message in messages:
        assert message in error, error
    assert "Traceback" not in error


def test_monochrome1_and_monochrome2_agree(tmp_path: Path) -> None:
    for z in range(3):
        write_pair(tmp_path, z, image=65535 - PICTURE, PhotometricInterpretation="MONOCHROME1")
    assert run(tmp_path) == 0
    for sample in built_samples(tmp_path).values():
        assert np.allclose(sample["pdfs"], sample["pd"], rtol=1e-5)
        assert np.corrcoef(sample["pd"].ravel(), sample["pdfs"].ravel())[0, 1] > 0.999


@pytest.mark.parametrize(
    ("tags", "messages"),
    [
        (
            {"ImageOrientationPatient": [0, 1, 0, 0, 0, 1], "PixelSpacing": [0.5, 0.5]},
            ["plane axial against sagittal", "spacing", "0.5 x 0.5"],
        ),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, ["plane axial against coronal"]),
        ({"PixelSpacing": [0.5, 0.5]}, ["spacing", "x 1 x 1 mm against", "x 0.5 x 0.5 mm"]),
        ({"PixelSpacing": [1, 1.01]}, ["x 1 x 1.01 mm"]),
        ({"ImageOrientationPatient": [0.9962, 0.0872, 0, -0.0872, 0.9962, 0]}, ["orientation", "0.9962"]),
        ({"shift": [2, 0]}, ["shifted in their plane by 2 mm", "(0, 0, 0) mm", "(2, 0, 0) mm"]),
        ({"shift": [0, -0.3]}, ["shifted in their plane by 0.3 mm"]),
        ({"image": np.tile(PICTURE, (2, 2))}, ["size 8 x 10 against 16 x 20 pixels"]),
        (
            {"ImagePositionPatient": None, "SliceLocation": 0},
            ["one states positions of its slices, the other does not"],
        ),
    ],
    ids=str,
)
def test_contrasts_of_other_places_are_refused_with_the_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tags: dict[str, Any], messages: list[str]
) -> None:
    for z in range(3):
        second = dict(tags)
        if "shift" in second:
            second["ImagePositionPatient"] = [*second.pop("shift"), z]
        if second.get("ImageOrientationPatient") == [0, 1, 0, 0, 0, 1]:
            second["ImagePositionPatient"] = [z, 0, 0]
        if second.get("ImageOrientationPatient") == [1, 0, 0, 0, 0, -1]:
            second["ImagePositionPatient"] = [0, z, 0]
        if "SliceLocation" in second:
            second["SliceLocation"] = z
        write_pair(tmp_path, z, **second)
    refused(tmp_path, capsys, "P1: pd and pdfs", *messages)


def test_contrasts_that_are_stored_in_other_orientations_are_turned_alike(tmp_path: Path) -> None:
    """The second contrast is stored upside down and says so."""
    for z in range(3):
        write_pair(
            tmp_path,
            z,
            image=PICTURE[::-1] * 2,
            ImageOrientationPatient=[1, 0, 0, 0, -1, 0],
            ImagePositionPatient=[0, len(PICTURE) - 1, z],
        )
    assert run(tmp_path) == 0
    for sample in built_samples(tmp_path).values():
        assert np.allclose(sample["pd"] * 2, sample["pdfs"], rtol=1e-5)
        assert np.allclose(sample["pd"], PICTURE, rtol=1e-5)


def test_a_slice_is_never_matched_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for z in (0.0, 0.4, 3.0):
        write_dicom(tmp_path / "pd" / f"{z}.dcm", z=z)
    for z in (0.2, 3.0):
        write_dicom(tmp_path / "pdfs" / f"{z}.dcm", z=z)
    refused(tmp_path, capsys, "the slice of pdfs at 0.2", "within 0.5 mm of two slices of pd, at 0 and 0.4")
    assert run(tmp_path, "--tolerance-mm", "0.1") == 0
    assert len(built_samples(tmp_path)) == 1


def test_echoes_are_told_apart_and_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for contrast in ("pd", "pdfs"):
        for number in range(8):
            image = PICTURE + 1000 * (number % 2) + 50 * (number // 2)
            path = tmp_path / contrast / f"{number}.dcm"
            write_dicom(path, image, 3.0 * (number // 2), InstanceNumber=number, EchoNumbers=1 + number % 2)
    refused(tmp_path, capsys, "patient P1 has 2 series", "echo 1 (4 slices)", "echo 2 (4 slices)", "--series 'pd=TEXT'")
    refused(tmp_path, capsys, "pdfs: patient P1 has 2 series", more=("--series", "pd=echo 1"))
    assert run(tmp_path, "--series", "pd=echo 1", "--series", "pdfs=echo 2") == 0
    for number, sample in enumerate(built_samples(tmp_path).values()):
        assert np.allclose(sample["pd"], PICTURE + 50 * number, rtol=1e-4)
        assert np.allclose(sample["pdfs"], PICTURE + 1000 + 50 * number, rtol=1e-4)
    assert run(tmp_path, "--series", "other=echo 1") == 2


@pytest.mark.parametrize("patient", ["", "ANONYMOUS"])
@pytest.mark.parametrize("series", ["1.2.3", None])
def test_anonymous_patients_are_told_apart_by_their_folders(
    tmp_path: Path, patient: str, series: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("sub-1", "sub-2", "sub-3")):
        for z in range(2):
            image = PICTURE + np.uint16(500 * number + z)
            tags: dict[str, Any] = {"PatientID": patient, "SeriesInstanceUID": series}
            write_dicom(tmp_path / "pd" / name / f"{z}.dcm", image, z, **tags)
            write_dicom(tmp_path / "pdfs" / name / "scan" / f"{z}.dcm", image * 2, z, **tags)
    assert run(tmp_path, "--split", "1,1,1") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == ["test", "train", "val"]
    for sample in built_samples(tmp_path).values():
        assert np.allclose(sample["pd"] * 2, sample["pdfs"], rtol=1e-4)
    if patient:
        assert "taking their sub-folders for patients" in capsys.readouterr().err


def test_sessions_of_a_patient_stay_in_one_split(tmp_path: Path) -> None:
    for patient, session in (("A", "s1"), ("A", "s2"), ("B", "s1")):
        for contrast in ("pd", "pdfs"):
            tags: dict[str, Any] = {"PatientID": patient, "SeriesInstanceUID": f"1.{ord(patient)}.{session[1]}"}
            write_dicom(tmp_path / contrast / session / f"{patient}.dcm", z=0, **tags)
    assert run(tmp_path) == 0
    shards = ShardSet.open(tmp_path / "out" / "train")
    groups = {shards.key(i): shards.json(i)["group"] for i in range(len(shards))}
    assert groups == {"A-s1-000": "A", "A-s2-000": "A", "B-000": "B"}


def test_folders_can_stand_for_patients(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each export has invented its own PatientID."""
    for number, name in enumerate(("sub-1", "sub-2")):
        for contrast in ("pd", "pdfs"):
            write_dicom(tmp_path / contrast / name / "0.dcm", PICTURE, 0, PatientID=f"{contrast}{number}")
    refused(tmp_path, capsys, "no patient has all of the contrasts", "--patient-by folder")
    assert run(tmp_path, "--patient-by", "folder") == 0
    assert sorted(built_samples(tmp_path)) == ["sub-1-000", "sub-2-000"]


def test_empty_numbers_and_missing_positions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for contrast in ("pd", "pdfs"):
        write_dicom(tmp_path / contrast / "a.dcm", InstanceNumber=None)
    assert run(tmp_path) == 0 and list(built_samples(tmp_path)) == ["P1-000"]
    for contrast in ("pd", "pdfs"):
        write_dicom(tmp_path / contrast / "b.dcm", InstanceNumber=None)
    refused(tmp_path, capsys, "state neither position nor number")


def test_gaps_and_slices_without_partner_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for z in (0, 3, 6, 12):
        write_pair(tmp_path, z)
    write_dicom(tmp_path / "pdfs" / "9.dcm", z=9)
    assert run(tmp_path) == 0
    output = capsys.readouterr()
    assert "pd: slices are missing between 6 and 12 mm" in output.err
    assert "9.dcm" in output.err + output.out + (tmp_path / "out" / "dataset.md").read_text("utf-8")
    assert len(built_samples(tmp_path)) == 4


def test_enhanced_files_pair_with_single_slices(tmp_path: Path) -> None:
    frames = np.stack([PICTURE, PICTURE + 20, PICTURE + 40])
    (tmp_path / "pd").mkdir(parents=True)
    write_enhanced(tmp_path / "pd" / "all.dcm", frames[::-1], [{"z": z} for z in (6, 3, 0)])
    for number, z in enumerate((0, 3, 6)):
        write_dicom(tmp_path / "pdfs" / f"{z}.dcm", frames[number] * 2, z, PixelSpacing=[0.5, 0.75])
    assert run(tmp_path) == 0
    for number, sample in enumerate(built_samples(tmp_path).values()):
        assert np.allclose(sample["pd"], frames[number], rtol=1e-4)
        assert np.allclose(sample["pdfs"], frames[number] * 2, rtol=1e-4)


def test_localizers_reports_and_other_files_are_left_out_and_named(tmp_path: Path) -> None:
    for z in range(3):
        write_pair(tmp_path, z, both={"ImageType": ["ORIGINAL", "PRIMARY", "M"]})
    scout: dict[str, Any] = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesInstanceUID": "9"}
    write_dicom(tmp_path / "pd" / "scout.dcm", z=50, **scout)
    report = make_dicom(PICTURE)
    for name in ("Rows", "Columns", "PixelData"):
        del report[name]
    report.save_as(tmp_path / "pd" / "report.dcm", enforce_file_format=True)
    (tmp_path / "pd" / "VERSION").write_text("made by a scanner", encoding="utf-8")
    assert run(tmp_path) == 0 and len(built_samples(tmp_path)) == 3
    card = (tmp_path / "out" / "dataset.md").read_text("utf-8")
    assert "report.dcm" in card and "VERSION" in card and "localizer" in card
    assert run(tmp_path, "--strict", "--output", str(tmp_path / "strict")) == 4


def test_a_pattern_that_chooses_no_series_lists_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pair(tmp_path, 0)
    refused(tmp_path, capsys, "no description matches 'echo 7'", "series 1.2.3", more=("--series", "pd=echo 7"))
    assert run(tmp_path, "--series", "pd=(") == 2


def test_names_that_end_in_a_uid_are_found(tmp_path: Path) -> None:
    for z in range(3):
        write_dicom(tmp_path / "pd" / f"MR.1.2.840.{z}", z=z)
        write_dicom(tmp_path / "pdfs" / f"{z}.dicom", z=z)
    (tmp_path / "pd" / "notes.ini").write_text("window = 3", encoding="utf-8")
    assert run(tmp_path) == 0 and len(built_samples(tmp_path)) == 3


def test_patients_without_an_id_are_never_joined(tmp_path: Path) -> None:
    """Their slices lie at different places, so nothing repeats."""
    for number, name in enumerate(("a", "b")):
        for contrast in ("pd", "pdfs"):
            write_dicom(tmp_path / contrast / name / "0.dcm", z=100 * number, PatientID="")
    assert run(tmp_path) == 0 and sorted(built_samples(tmp_path)) == ["a-000", "b-000"]


def test_patients_whose_ids_differ_in_punctuation_stay_two(tmp_path: Path) -> None:
    for number, patient in enumerate(("A.1", "A 1")):
        for contrast in ("pd", "pdfs"):
            write_dicom(tmp_path / contrast / f"{number}.dcm", PICTURE + np.uint16(number), 0, PatientID=patient)
    assert run(tmp_path) == 0
    shards = ShardSet.open(tmp_path / "out" / "train")
    assert len({shards.key(i) for i in range(len(shards))}) == 2
    assert {shards.json(i)["group"] for i in range(len(shards))} == {"A.1", "A 1"}


def test_the_description_of_a_series_chooses_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for contrast in ("pd", "pdfs"):
        write_dicom(tmp_path / contrast / "a.dcm", PICTURE, 0, SeriesDescription="T2 TSE sag")
        second: dict[str, Any] = {"SeriesDescription": "PD TSE", "SeriesInstanceUID": "7"}
        write_dicom(tmp_path / contrast / "b.dcm", PICTURE * 2, 0, **second)
    refused(tmp_path, capsys, "'T2 TSE sag' (1 slices)", "'PD TSE' (1 slices)")
    assert run(tmp_path, "--series", "pd=PD TSE", "--series", "pdfs=T2") == 0
    (sample,) = built_samples(tmp_path).values()
    assert np.allclose(sample["pd"], PICTURE * 2, rtol=1e-4) and np.allclose(sample["pdfs"], PICTURE, rtol=1e-4)
    assert "unchosen scan" in (tmp_path / "out" / "dataset.md").read_text("utf-8")
