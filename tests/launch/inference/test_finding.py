"""Folders of several fields: files are matched by name, DICOM slices of other names by their place."""

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from quell.configs.errors import ConfigError, DataError
from quell.launch.inference.files.stored_file import StoredFile
from quell.launch.inference.finding import find_inputs
from quell.shards.image_files.read import read_file
from tests.launch.inference.dicom_files import write_dicom


def write_series(folder: Path, names: list[str], positions_mm: list[float]) -> None:
    """Write axial slices at these positions."""
    folder.mkdir()
    for name, position in zip(names, positions_mm, strict=True):
        write_dicom(
            folder / name,
            np.ones((16, 16), "<u2"),
            ImagePositionPatient=[0, 0, position],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        )


def test_dicom_slices_of_other_names_are_matched_by_place(tmp_path: Path) -> None:
    write_series(tmp_path / "pd", ["a.dcm", "b.dcm", "c.dcm"], [0, 3, 6])
    write_series(tmp_path / "pdfs", ["IM1", "IM2", "IM3"], [6.1, 3.1, 0.1])
    inputs, _ = find_inputs([f"pd={tmp_path / 'pd'},pdfs={tmp_path / 'pdfs'}"], None, tmp_path / "out")
    assert [(given.files["pd"].name, given.files["pdfs"].name) for given in inputs] == [
        ("a.dcm", "IM3"),
        ("b.dcm", "IM2"),
        ("c.dcm", "IM1"),
    ]


def test_series_of_other_places_are_refused_with_their_positions(tmp_path: Path) -> None:
    write_series(tmp_path / "pd", ["a.dcm", "b.dcm"], [0, 3])
    write_series(tmp_path / "pdfs", ["c.dcm", "d.dcm"], [0, 4])
    with pytest.raises(DataError, match="2 slices from 0 to 4 mm, but .* has 2 from 0 to 3 mm"):
        find_inputs([f"pd={tmp_path / 'pd'},pdfs={tmp_path / 'pdfs'}"], None, tmp_path / "out")


def test_series_whose_names_agree_are_matched_by_place_all_the_same(tmp_path: Path) -> None:
    write_series(tmp_path / "pd", ["1.dcm", "2.dcm"], [0, 3])
    write_series(tmp_path / "pdfs", ["1.dcm", "2.dcm"], [3, 0])
    inputs, _ = find_inputs([f"pd={tmp_path / 'pd'},pdfs={tmp_path / 'pdfs'}"], None, tmp_path / "out")
    assert [given.files["pdfs"].name for given in inputs] == ["2.dcm", "1.dcm"]


def test_volumes_of_several_fields_must_show_the_same_places(tmp_path: Path) -> None:
    volume = np.ones((16, 16, 5), np.float32)
    for name, shift in (("a", 0.0), ("b", 0.0), ("c", 4.0)):
        affine = np.diag([1.0, 1, 3, 1])
        affine[2, 3] = shift
        nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / f"{name}.nii")
    a, b, c = (StoredFile(tmp_path / f"{name}.nii", 1) for name in "abc")
    assert a.misalignment(b) == ""
    assert "origin" in a.misalignment(c)


def test_pipes_and_folders_that_are_reached_twice_are_left_out_by_name(tmp_path: Path) -> None:
    (tmp_path / "in" / "x").mkdir(parents=True)
    (tmp_path / "in" / "x" / "a.png").write_bytes(b"")
    (tmp_path / "in" / "y").symlink_to(tmp_path / "in" / "x")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    inputs, left_out = find_inputs([str(tmp_path / "in")], None, tmp_path / "out")
    assert [path.name for given in inputs for path in given.files.values()] == ["a.png"]
    assert left_out.counts == {"special file": 1, "folder that is reached twice": 1}
    with pytest.raises(DataError, match=r"pipe\.png: not a regular file"):
        read_file(tmp_path / "in" / "pipe.png")


def test_an_empty_input_is_not_the_current_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="an input is empty"):
        find_inputs([""], None, tmp_path)
