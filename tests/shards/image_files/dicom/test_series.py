"""Which DICOM slices belong together, in which order they come, and how they are turned."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quell.configs.errors import DataError
from quell.shards.image_files.dicom.headers import read_frames
from quell.shards.image_files.dicom.series import Series, find_series, read_series
from quell.shards.image_files.read import read_one
from tests.shards.image_files.dicom_files import PICTURE, write_dicom, write_enhanced


def series_in(root: Path) -> list[Series]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return find_series((frame for path in files for frame in read_frames(path)), root)


def only(root: Path) -> Series:
    (series,) = series_in(root)
    return series


def test_slices_are_ordered_by_position_and_not_by_name_or_number(tmp_path: Path) -> None:
    for name, z in (("a", 4.0), ("b", -2.0), ("c", 1.0)):
        write_dicom(tmp_path / f"{name}.dcm", PICTURE + np.uint16(z + 2), z, InstanceNumber=ord(name))
    series = only(tmp_path)
    assert series.positions_mm == (-2, 1, 4) and series.has_positions and not series.gaps
    image = read_series(series)
    assert np.array_equal(image.pixels, [PICTURE, PICTURE + 3, PICTURE + 6])
    assert [frame.path.name for frame in image.frames] == ["b.dcm", "c.dcm", "a.dcm"]
    assert image.geometry.spacing_mm == (3, 1, 1)


@pytest.mark.parametrize("tag", ["SliceLocation", "InstanceNumber"])
def test_without_positions_location_and_number_give_the_order(tmp_path: Path, tag: str) -> None:
    for name, value in (("a", 30), ("b", 4), ("c", 5)):
        write_dicom(tmp_path / f"{name}.dcm", PICTURE + value, **{"InstanceNumber": None, tag: value})
    series = only(tmp_path)
    assert series.positions_mm == (4, 5, 30) and not series.has_positions
    assert np.array_equal(read_series(series).pixels[2], PICTURE + 30)


def test_slices_that_cannot_be_ordered_are_refused(tmp_path: Path) -> None:
    write_dicom(tmp_path / "one" / "a.dcm", InstanceNumber=None)
    assert len(only(tmp_path / "one").frames) == 1
    for name in ("a", "b"):
        write_dicom(tmp_path / "two" / f"{name}.dcm", InstanceNumber=None)
    with pytest.raises(DataError, match=r"a\.dcm and .*b\.dcm: 2 slices state neither position nor number"):
        series_in(tmp_path / "two")
    write_dicom(tmp_path / "some" / "a.dcm", z=1)
    write_dicom(tmp_path / "some" / "b.dcm", z=2)
    write_dicom(tmp_path / "some" / "c.dcm", z=3, ImagePositionPatient=None)
    with pytest.raises(DataError, match=r"c\.dcm: states no position, but .*a\.dcm of the same series does"):
        series_in(tmp_path / "some")
    for name in ("a", "b", "c"):
        write_dicom(tmp_path / "numbers" / f"{name}.dcm", InstanceNumber=1 + (name == "c"))
    with pytest.raises(DataError, match=r"a\.dcm and .*b\.dcm are slices of the same series at the same instance 1,"):
        series_in(tmp_path / "numbers")


@pytest.mark.parametrize(
    ("first", "second", "label"),
    [
        ({"EchoNumbers": 1}, {"EchoNumbers": 2}, "echo 2"),
        ({"EchoTime": 10.5}, {"EchoTime": 80}, "echo 80"),
        ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}, "acquisition 2"),
        ({"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}, "temporal position 2"),
        ({"TriggerTime": 0}, {"TriggerTime": 33.5}, "trigger time 33.5"),
        ({"DiffusionBValue": 0.0}, {"DiffusionBValue": 800.0}, "b-value 800"),
        ({"InversionTime": 50}, {"InversionTime": 400}, "inversion time 400"),
        ({"FlipAngle": 5}, {"FlipAngle": 20}, "flip angle 20"),
        (
            {"ImageType": ["ORIGINAL", "PRIMARY", "M"]},
            {"ImageType": ["ORIGINAL", "PRIMARY", "P"]},
            "image type .*'P'",
        ),
        ({"SeriesInstanceUID": "1.2.3"}, {"SeriesInstanceUID": "1.2.4"}, "series 1.2.4"),
        ({"PixelSpacing": [1, 1]}, {"PixelSpacing": [2, 2]}, "spacing 2 x 2 mm"),
        ({}, {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "rows along 0 1 0"),
    ],
)
def test_images_of_the_same_places_are_told_apart(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], label: str
) -> None:
    for z in range(3):
        write_dicom(tmp_path / f"a{z}.dcm", PICTURE + z, z, **first)
        place = {"ImagePositionPatient": [z, 0, 0]} if "ImageOrientationPatient" in second else {}
        write_dicom(tmp_path / f"b{z}.dcm", PICTURE + 100 + z, z, **second, **place)
    found = series_in(tmp_path)
    assert len(found) == 2 and all(len(each.frames) == 3 for each in found)
    for each in found:
        assert len({frame.path.name[0] for frame in each.frames}) == 1
    (match,) = [each for each in found if each.frames[0].path.name[0] == "b"]
    assert re.search(label, match.label), match.label
    assert np.array_equal(read_series(match).pixels.max(axis=(1, 2)), PICTURE.max() + 100 + np.arange(3)) or (
        "rows along" in label
    )


def test_acquisitions_of_different_places_are_one_series(tmp_path: Path) -> None:
    for z in range(6):  # interleaved in two packages
        write_dicom(tmp_path / f"{z}.dcm", z=z, AcquisitionNumber=1 + z % 2)
    assert only(tmp_path).positions_mm == tuple(range(6))


def test_patients_in_one_folder_and_anonymous_ones_in_several(tmp_path: Path) -> None:
    for patient in ("A", "B"):
        for z in range(2):
            write_dicom(tmp_path / "flat" / f"{patient}{z}.dcm", z=z, PatientID=patient)
            write_dicom(tmp_path / "deep" / "study" / patient / "scan" / f"{z}.dcm", z=z, PatientID="")
            write_dicom(tmp_path / "same" / patient / f"{z}.dcm", z=z, PatientID="ANON")
    assert [each.patient for each in series_in(tmp_path / "flat")] == ["A", "B"]
    assert [each.folder for each in series_in(tmp_path / "deep")] == ["A", "B"]
    assert [(each.patient, each.folder) for each in series_in(tmp_path / "same")] == [("ANON", "A"), ("ANON", "B")]


def test_one_series_over_several_folders_stays_one(tmp_path: Path) -> None:
    for z in range(4):
        write_dicom(tmp_path / f"DIR{z // 2}" / f"IM{z}", z=z)
    assert only(tmp_path).positions_mm == (0, 1, 2, 3)


def test_copies_of_a_slice_are_refused(tmp_path: Path) -> None:
    for z in range(3):
        write_dicom(tmp_path / f"{z}.dcm", z=z)
    (tmp_path / "copy.dcm").write_bytes((tmp_path / "1.dcm").read_bytes())
    with pytest.raises(
        DataError, match=r"1\.dcm and .*copy\.dcm are slices of the same series at the same position 1 mm"
    ):
        series_in(tmp_path)


def test_missing_slices_are_found(tmp_path: Path) -> None:
    for z in (0, 3, 6, 12, 15):
        write_dicom(tmp_path / f"{z}.dcm", z=z)
    assert only(tmp_path).gaps == [(6, 12)]
    for number in (1, 2, 4, 5):
        write_dicom(tmp_path / "n" / f"{number}.dcm", InstanceNumber=number, SeriesInstanceUID="9")
    assert only(tmp_path / "n").gaps == [(2, 4)]


def test_frames_of_an_enhanced_file_are_sorted_and_told_apart(tmp_path: Path) -> None:
    frames = np.stack([PICTURE + 10 * i for i in range(6)])
    facts = [{"z": 3 * (2 - i // 2), "echo": 10 + 20 * (i % 2), "slope": 1 + i % 2} for i in range(6)]
    write_enhanced(tmp_path / "a.dcm", frames, facts)
    first, second = series_in(tmp_path)
    assert first.positions_mm == second.positions_mm == (0, 3, 6) and "echo 30" in second.label
    assert np.array_equal(read_series(first).pixels, frames[[4, 2, 0]])
    image = read_series(second)
    assert np.array_equal(image.pixels, frames[[5, 3, 1]] * 2.0)
    assert [frame.number for frame in image.frames] == [5, 3, 1]
    assert image.geometry.spacing_mm == (3, 0.5, 0.75)


AXES = {
    "axial": [1, 0, 0, 0, 1, 0],
    "coronal": [1, 0, 0, 0, 0, -1],
    "sagittal": [0, 1, 0, 0, 0, -1],
}


@pytest.mark.parametrize("plane", AXES)
@pytest.mark.parametrize("turn", range(8))
def test_slices_are_turned_to_the_radiological_display(tmp_path: Path, plane: str, turn: int) -> None:
    """The same anatomy, stored in eight ways: all read alike, with one affine matrix."""
    rows, columns = np.array(AXES[plane][:3]), np.array(AXES[plane][3:])
    normal = np.cross(rows, columns)
    row_mm, column_mm = 2.0, 0.5  # between rows, between columns
    exchange, flip_rows, flip_columns = bool(turn & 4), bool(turn & 2), bool(turn & 1)
    height, width = PICTURE.shape
    for number in range(3):
        image, origin = PICTURE + number, normal * 5.0 * number + [7, 8, 9]
        along_row, along_column, spacing = rows, columns, [row_mm, column_mm]
        if flip_rows:
            image, origin = image[::-1], origin + columns * row_mm * (height - 1)
            along_column = -along_column
        if flip_columns:
            image, origin = image[:, ::-1], origin + rows * column_mm * (width - 1)
            along_row = -along_row
        if exchange:
            image, along_row, along_column, spacing = image.T, along_column, along_row, spacing[::-1]
        write_dicom(
            tmp_path / f"{9 - number}.dcm",
            image,
            ImagePositionPatient=origin.tolist(),
            ImageOrientationPatient=[*along_row.tolist(), *along_column.tolist()],
            PixelSpacing=spacing,
        )
    read = read_series(only(tmp_path))
    assert np.array_equal(read.pixels, [PICTURE, PICTURE + 1, PICTURE + 2])
    assert read.geometry.spacing_mm == (5, row_mm, column_mm)
    expected = np.eye(4)
    expected[:3] = np.stack([normal * 5, columns * row_mm, rows * column_mm, [7, 8, 9]], axis=1)
    expected[:2] *= -1
    assert read.geometry.affine is not None and np.allclose(read.geometry.affine, expected)
    stored = read.to_file_layout(read.pixels)
    for number, frame in enumerate(read.frames):
        assert np.array_equal(stored[number], read_one(frame.path).pixels[0])
