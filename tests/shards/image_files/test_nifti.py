"""NIfTI volumes in every orientation, scale and shape, alone and as pairs."""

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from quell.configs.errors import DataError
from quell.shards.image_files.read import read_one
from tests.shards.sources.two_contrasts import build_contrasts, built_samples

VOLUME = (np.arange(12 * 10 * 5).reshape(12, 10, 5) * 7 % 601 + 300).astype(np.float32)
"""(x, y, z), canonical, with no two planes alike."""
AFFINE = np.array([[0.8, 0, 0, -3], [0, 0.9, 0, 5], [0, 0, 3, 7], [0, 0, 0, 1]])


def write(path: Path, data: np.ndarray, affine: np.ndarray | None = AFFINE, **header: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(data, affine)
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def stored_as(order: tuple[int, ...], flips: tuple[bool, ...]) -> tuple[np.ndarray, np.ndarray]:
    """VOLUME with its axes in another order, some reversed, and the affine matrix that says so."""
    data = VOLUME.transpose(order)
    affine = AFFINE[:, [*order, 3]].copy()
    for axis, flip in enumerate(flips):
        if flip:
            data = np.flip(data, axis)
            affine[:3, 3] += affine[:3, axis] * (data.shape[axis] - 1)
            affine[:3, axis] *= -1
    return np.ascontiguousarray(data), affine


ORIENTATIONS = list(itertools.product(itertools.permutations(range(3)), itertools.product((False, True), repeat=3)))


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS, ids=str)
def test_all_orientations_of_a_volume_read_alike(
    tmp_path: Path, order: tuple[int, ...], flips: tuple[bool, ...]
) -> None:
    data, affine = stored_as(order, flips)
    image = read_one(write(tmp_path / "a.nii", data, affine))
    assert np.array_equal(image.pixels, VOLUME.transpose(2, 0, 1))
    assert image.geometry.affine is not None
    assert np.allclose(image.geometry.affine, AFFINE[:, [2, 0, 1, 3]])
    assert image.geometry.spacing_mm == pytest.approx((3, 0.8, 0.9))
    assert np.array_equal(image.to_file_layout(image.pixels), data)


def test_oblique_volumes_are_brought_to_the_closest_axes(tmp_path: Path) -> None:
    angle = np.radians(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    data, affine = stored_as((2, 0, 1), (True, False, True))
    image = read_one(write(tmp_path / "a.nii", data, turn @ affine))
    assert np.array_equal(image.pixels, VOLUME.transpose(2, 0, 1))


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8", "c8", ">i2", ">f4"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
def test_number_types_and_byte_orders(tmp_path: Path, dtype: str, suffix: str) -> None:
    data = (VOLUME % 120).astype(dtype)
    path = tmp_path / "a.nii.gz" if suffix == ".NII.GZ" else tmp_path / f"a{suffix}"
    write(path, data)
    path.rename(tmp_path / f"a{suffix}")
    image = read_one(tmp_path / f"a{suffix}")
    assert np.array_equal(image.pixels, data.transpose(2, 0, 1)) and image.pixels.dtype.isnative


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VOLUME.astype(np.int16), AFFINE)
    image.header.set_slope_inter(0.5, -1024)
    nibabel.save(image, tmp_path / "a.nii")
    read = read_one(tmp_path / "a.nii")
    again: Any = nibabel.load(tmp_path / "a.nii")
    stored = np.asarray(again.dataobj.get_unscaled())
    assert np.allclose(read.pixels, stored.transpose(2, 0, 1) * 0.5 - 1024)
    assert (read.values.slope, read.values.intercept) == (0.5, -1024)
    assert np.allclose(read.to_file_layout(read.values.to_stored(read.pixels)), stored)


def test_trailing_axes_and_series_of_volumes(tmp_path: Path) -> None:
    for shape in ((12, 10, 5, 1), (12, 10, 5, 1, 1)):
        image = read_one(write(tmp_path / "a.nii", VOLUME.reshape(shape)))
        assert image.pixels.shape == (5, 12, 10) and image.stack_axes == (("Z", 5),)
        assert image.to_file_layout(image.pixels).shape == shape
    series = np.stack([VOLUME, VOLUME * 2, VOLUME * 3], axis=-1)
    image = read_one(write(tmp_path / "b.nii", series))
    assert image.stack_axes == (("T", 3), ("Z", 5)) and image.pixels.shape == (15, 12, 10)
    assert np.array_equal(image.plain[1], VOLUME.transpose(2, 0, 1) * 2)
    assert np.array_equal(image.to_file_layout(image.pixels), series)
    assert read_one(write(tmp_path / "c.nii", VOLUME[:, :, 0])).pixels.shape == (1, 12, 10)
    assert read_one(write(tmp_path / "d.nii", VOLUME[:, :, :1])).pixels.shape == (1, 12, 10)
    assert read_one(write(tmp_path / "e.nii", VOLUME[:, :, None, :])).stack_axes == (("T", 5), ("Z", 1))


def test_a_file_without_orientation_is_used_as_it_is_stored(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", VOLUME, None)
    image = read_one(path)
    assert image.geometry.affine is None and np.array_equal(image.pixels, VOLUME.transpose(2, 0, 1))


def test_what_is_no_grey_volume_is_refused_by_name(tmp_path: Path) -> None:
    rgb = np.zeros((12, 10, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    write(tmp_path / "rgb.nii.gz", rgb)
    rgba = np.zeros((12, 10, 4), [("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")])
    write(tmp_path / "rgba.nii.gz", rgba)
    write(tmp_path / "many.nii.gz", np.zeros((4, 4, 4, 2, 3), np.float32))
    whole = write(tmp_path / "whole.nii.gz", VOLUME).read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    (tmp_path / "damaged.nii.gz").write_bytes(damaged)
    (tmp_path / "plain.nii.gz").write_bytes(write(tmp_path / "p.nii", VOLUME).read_bytes()[:500])
    (tmp_path / "short.nii").write_bytes((tmp_path / "p.nii").read_bytes()[:-40])
    (tmp_path / "empty.nii").write_bytes(b"")
    (tmp_path / "text.nii").write_text("not a volume " * 40, encoding="utf-8")
    names = ("rgb.nii.gz", "rgba.nii.gz", "many.nii.gz", "cut.nii.gz", "damaged.nii.gz", "plain.nii.gz", "short.nii")
    for name in (*names, "empty.nii", "text.nii", "missing.nii"):
        with pytest.raises(DataError, match=name):
            read_one(tmp_path / name)
    with pytest.raises(DataError, match=r"a colour volume \(R G B\)"):
        read_one(tmp_path / "rgb.nii.gz")
    flat = AFFINE.copy()
    flat[:3, 1] = 0
    path = write(tmp_path / "flat.nii", VOLUME)
    image: Any = nibabel.load(path)
    image.header.set_sform(flat, 1)
    image.header["qform_code"] = 0
    (tmp_path / "flat2.nii").write_bytes(image.header.binaryblock + path.read_bytes()[348:])
    with pytest.raises(DataError, match=r"flat2\.nii: its affine matrix is singular"):
        read_one(tmp_path / "flat2.nii")


def test_a_changed_byte_of_a_compressed_file_is_never_passed_over(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.nii.gz", np.random.default_rng(0).random((9, 8, 7)).astype(np.float32)).read_bytes()
    expected = read_one(tmp_path / "a.nii.gz").pixels
    for place in range(30, len(whole), 61):
        damaged = bytearray(whole)
        damaged[place] ^= 16
        (tmp_path / "b.nii.gz").write_bytes(damaged)
        with pytest.raises(DataError, match=r"b\.nii\.gz: not a readable NIfTI volume"):
            read_one(tmp_path / "b.nii.gz")
    assert np.array_equal(read_one(tmp_path / "a.nii.gz").pixels, expected)


run = partial(build_contrasts, "nifti")


def test_subjects_and_contrasts_in_other_orders_give_the_same_slices(tmp_path: Path) -> None:
    for number, (order, flips) in enumerate([((0, 1, 2), (False,) * 3), ((2, 0, 1), (True, False, True))]):
        data, affine = stored_as(order, flips)
        write(tmp_path / "pd" / f"sub-{number}.nii.gz", data, affine)
        other, its_affine = stored_as((1, 2, 0), (False, True, False))
        write(tmp_path / "pdfs" / f"sub-{number}.nii.gz", other * 2, its_affine)
    assert run(tmp_path) == 0
    read = built_samples(tmp_path)
    assert len(read) == 10
    for key, sample in read.items():
        expected = VOLUME[:, :, int(key[-3:])]
        assert np.allclose(sample["pd"], expected, rtol=1e-4) and np.allclose(sample["pdfs"], expected * 2, rtol=1e-4)


@pytest.mark.parametrize("plane", [0, 1, 2])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0)])
def test_slices_are_cut_in_the_plane_of_the_acquisition(tmp_path: Path, plane: int, order: tuple[int, ...]) -> None:
    spacing = np.ones(3)
    spacing[plane] = 4
    affine = np.diag([*spacing, 1])[:, [*order, 3]]
    for contrast in ("pd", "pdfs"):
        write(tmp_path / contrast / "s.nii", VOLUME.transpose(order), affine)
    assert run(tmp_path) == 0
    read = built_samples(tmp_path)
    assert len(read) == VOLUME.shape[plane]
    assert np.allclose(read["s-001"]["pd"], np.take(VOLUME, 1, axis=plane), rtol=1e-4)


def test_volumes_of_different_planes_are_refused_unless_one_is_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for contrast in ("pd", "pdfs"):
        write(tmp_path / contrast / "a.nii", VOLUME, np.diag([1, 1, 4, 1]))
        write(tmp_path / contrast / "b.nii", VOLUME, np.diag([4, 1, 1, 1]))
        write(tmp_path / contrast / "c.nii", VOLUME, np.eye(4))
    assert run(tmp_path) == 4
    error = capsys.readouterr().err
    assert "slices of different planes (sagittal in" in error and "b.nii" in error and "axial in" in error
    assert run(tmp_path, "--axis", "1") == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shift": (4, 0, 0)}, "origin (-3, 5, 7) mm against (1, 5, 7) mm"),
        ({"shift": (0, 0, 0.5)}, "origin (-3, 5, 7) mm against (-3, 5, 7.5) mm"),
        ({"spacing": (1, 1, 2)}, "spacing 3 x 0.8 x 0.9 mm against 6 x 0.8 x 0.9 mm"),
        ({"spacing": (0.5, 1, 1)}, "spacing 3 x 0.8 x 0.9 mm against 3 x 0.4 x 0.9 mm"),
        ({"angle": 10}, "orientation"),
    ],
    ids=str,
)
def test_contrasts_of_other_places_are_refused_with_the_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    affine = AFFINE.copy()
    affine[:3, 3] += change.get("shift", (0, 0, 0))
    affine[:3, :3] = affine[:3, :3] * change.get("spacing", (1, 1, 1))
    angle = np.radians(change.get("angle", 0))
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine[:3, :3] = turn @ affine[:3, :3]
    write(tmp_path / "pd" / "s.nii", VOLUME)
    write(tmp_path / "pdfs" / "s.nii", VOLUME, affine)
    assert run(tmp_path) == 4
    error = capsys.readouterr().err
    assert "are not aligned" in error and message in error and "s.nii" in error


def test_a_contrast_without_orientation_is_not_paired_with_one_that_has_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "pd" / "s.nii", VOLUME)
    write(tmp_path / "pdfs" / "s.nii", VOLUME, None)
    assert run(tmp_path) == 4
    assert "pdfs/s.nii states no orientation" in capsys.readouterr().err
    write(tmp_path / "pd" / "s.nii", VOLUME, None)
    assert run(tmp_path) == 0


def test_a_nan_and_a_colour_volume_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hole = VOLUME.copy()
    hole[3, 4, 2] = np.nan
    write(tmp_path / "pd" / "s.nii", VOLUME)
    write(tmp_path / "pdfs" / "s.nii", hole)
    assert run(tmp_path) == 4
    assert "pdfs/s.nii: slice 2, row 3, column 4 is NaN (1 of 600 values" in capsys.readouterr().err
    write(tmp_path / "pdfs" / "s.nii", np.zeros((12, 10, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")]))
    assert run(tmp_path) == 4
    assert "pdfs/s.nii: a colour volume" in capsys.readouterr().err
    write(tmp_path / "pdfs" / "s.nii", np.stack([VOLUME, VOLUME], -1))
    assert run(tmp_path) == 4
    assert "expected a single volume with 3 axes, got shape (12, 10, 5, 2)" in capsys.readouterr().err


def test_a_trailing_axis_is_no_obstacle(tmp_path: Path) -> None:
    write(tmp_path / "pd" / "s.nii", VOLUME[..., None])
    write(tmp_path / "pdfs" / "s.nii", VOLUME)
    assert run(tmp_path) == 0 and len(built_samples(tmp_path)) == 5


def test_contradictory_headers_are_refused_and_units_respected(tmp_path: Path) -> None:
    image: Any = nibabel.Nifti1Image(VOLUME, AFFINE)
    image.set_qform(np.diag([-0.8, 0.9, 3, 1]), 1)
    nibabel.save(image, tmp_path / "a.nii")
    with pytest.raises(DataError, match=r"a\.nii: sform and qform contradict each other: axes towards RAS against LAS"):
        read_one(tmp_path / "a.nii")
    image = nibabel.Nifti1Image(VOLUME, AFFINE)
    image.set_qform(AFFINE, 1)
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "b.nii")
    assert read_one(tmp_path / "b.nii").geometry.spacing_mm == pytest.approx((3e-3, 0.8e-3, 0.9e-3))
