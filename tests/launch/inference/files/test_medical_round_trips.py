"""DICOM and NIfTI: a copy that is written with the pixels that were read differs in nothing but what marks it."""

import gzip
import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from quell.configs.errors import DataError
from quell.launch.inference.files.opened import ArrayRows, Result
from quell.launch.inference.files.stored_file import StoredFile
from tests.launch.inference.dicom_files import write_dicom

RNG = np.random.default_rng(2)
SLICE = RNG.integers(0, 4096, (64, 48)).astype("<u2")
AFFINE = np.array([[0, 0, 3, 1], [-1, 0, 0, 2], [0, 1, 0, 3], [0, 0, 0, 1.0]])
CHANGED = {"SOPInstanceUID", "ImageType", "DerivationDescription"}
"""What a derived DICOM instance has of its own, besides its pixels."""


def copy(path: Path, change: float = 0) -> tuple[StoredFile, Path, list[str]]:
    """Write a copy with the pixels that were read, plus `change`: the opened file, the copy, the notes."""
    file = StoredFile(path, 1)
    file.check_writable()
    target = path.with_name(f"copy-{path.name}")
    pixels = file.read("") + file.facts[""].dtype.type(change)
    return file, target, file.write(target, {"": Result("", ArrayRows(pixels, (1, 1, 1, -1)))}, "Noise reduced")


DICOMS: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "plain": (SLICE, {}),
    "white is zero": (SLICE, {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}),
    "Hounsfield": (
        SLICE.astype("<i2") - 2000,
        {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -24, "PixelPaddingValue": -2000},
    ),
    "slope": (SLICE, {"RescaleSlope": 0.123, "RescaleIntercept": 5.5}),
    "implicit": (SLICE, {"syntax": ImplicitVRLittleEndian}),
    "deflated": (SLICE, {"syntax": DeflatedExplicitVRLittleEndian}),
    "frames": (np.stack([SLICE, SLICE[::-1]]), {"NumberOfFrames": 2}),
    "8 bits, odd": ((SLICE >> 4).astype("u1")[:63, :47].copy(), {}),
    "RLE": (SLICE, {"syntax": RLELossless}),
    "JPEG 2000": (SLICE, {"syntax": JPEG2000Lossless}),
    "JPEG-LS": (SLICE, {"syntax": JPEGLSLossless}),
}


@pytest.mark.parametrize("name", DICOMS)
def test_dicom_keeps_every_tag_and_becomes_a_derived_instance(tmp_path: Path, name: str) -> None:
    pixels, tags = DICOMS[name]
    write_dicom(tmp_path / "a.dcm", pixels, **tags)
    _, target, notes = copy(tmp_path / "a.dcm")
    old, new = pydicom.dcmread(tmp_path / "a.dcm"), pydicom.dcmread(target)
    assert notes == []
    np.testing.assert_array_equal(new.pixel_array, old.pixel_array)
    names = {element.keyword for element in old} | {element.keyword for element in new}
    assert {each for each in names if old.get(each) != new.get(each)} == CHANGED
    assert new[0x00091010].value == old[0x00091010].value
    assert new.file_meta.TransferSyntaxUID == old.file_meta.TransferSyntaxUID
    assert new.file_meta.MediaStorageSOPInstanceUID == new.SOPInstanceUID != old.SOPInstanceUID
    assert list(new.ImageType) == ["DERIVED", "PRIMARY", "M"]
    assert "Noise reduced" in new.DerivationDescription and str(old.SOPInstanceUID) in new.DerivationDescription


def test_dicom_is_brightened_in_the_direction_that_the_file_calls_bright(tmp_path: Path) -> None:
    dark = {"PhotometricInterpretation": "MONOCHROME1"}
    write_dicom(tmp_path / "white.dcm", np.full((64, 48), 1000, "<u2"), **dark)
    write_dicom(tmp_path / "slope.dcm", np.full((64, 48), 1000, "<u2"), RescaleSlope=2, RescaleIntercept=-1024)
    assert (pydicom.dcmread(copy(tmp_path / "white.dcm", 10)[1]).pixel_array == 990).all()
    assert (pydicom.dcmread(copy(tmp_path / "slope.dcm", 10)[1]).pixel_array == 1005).all()


def test_dicom_values_stay_within_the_bits_of_the_file_and_padding_stays_padding(tmp_path: Path) -> None:
    pixels = SLICE.copy()
    pixels[:8] = 4095
    write_dicom(tmp_path / "a.dcm", pixels, BitsStored=12, HighBit=11, PixelPaddingValue=4095)
    back = pydicom.dcmread(copy(tmp_path / "a.dcm", -7)[1]).pixel_array
    expected = np.where(pixels == 4095, 4095, np.maximum(pixels.astype(int) - 7, 0))
    np.testing.assert_array_equal(back, expected)


def test_overlays_in_unused_bits_are_kept(tmp_path: Path) -> None:
    overlay = (RNG.random(SLICE.shape) > 0.5).astype("<u2") << 15
    write_dicom(tmp_path / "a.dcm", SLICE | overlay, BitsStored=12, HighBit=11)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    for offset, value in ((0x10, 64), (0x11, 48), (0x100, 16), (0x102, 15)):
        data.add_new(0x60000000 + offset, "US", value)
    data.save_as(tmp_path / "a.dcm")
    target = copy(tmp_path / "a.dcm", -1)[1]
    back = np.frombuffer(pydicom.dcmread(target).PixelData, "<u2").reshape(SLICE.shape)
    np.testing.assert_array_equal(back >> 15, overlay >> 15)
    np.testing.assert_array_equal(back & 4095, np.maximum(SLICE.astype(int) - 1, 0))


def test_equal_pixels_make_the_same_instance_and_others_a_new_one(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", SLICE)
    uids = [pydicom.dcmread(copy(tmp_path / "a.dcm", change)[1]).SOPInstanceUID for change in (1, 1, 2)]
    assert uids[0] == uids[1] != uids[2]


def test_slices_of_one_series_and_echo_share_their_scale(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", SLICE, EchoNumbers=1)
    write_dicom(tmp_path / "b.dcm", SLICE, EchoNumbers=1, InstanceNumber=2)
    write_dicom(tmp_path / "c.dcm", SLICE, EchoNumbers=2)
    series = [StoredFile(tmp_path / f"{name}.dcm", 1).series for name in "abc"]
    assert series[0] == series[1] != series[2]


def test_dicom_that_cannot_be_written_again_is_refused(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", SLICE)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    data.FloatPixelData = SLICE.astype("<f4").tobytes()
    del data.PixelData, data.BitsStored, data.HighBit, data.PixelRepresentation
    data.BitsAllocated = 32
    data.save_as(tmp_path / "a.dcm")
    with pytest.raises(DataError, match="floating-point pixels cannot be written again; choose --format"):
        copy(tmp_path / "a.dcm")


def nifti_bytes(path: Path) -> bytes:
    """The content of a file, uncompressed."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


@pytest.mark.parametrize("axis", [0, 1, 2, None])
@pytest.mark.parametrize("series", [1, 3])
def test_nifti_is_cut_as_its_builder_cuts_it_and_put_together_again(
    tmp_path: Path, axis: int | None, series: int
) -> None:
    """Sagittal slices of 4 mm, stored with the slices last, as scanners do; the file's axes are turned."""
    volume = RNG.integers(0, 999, (20, 24, 5, series)).astype(np.int16)
    affine = np.array([[0, 0, 4, 1], [-1, 0, 0, 2], [0, 1, 0, 3], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / "a.nii")
    file = StoredFile(tmp_path / "a.nii", 1, axis)
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image.from_filename(tmp_path / "a.nii"))
    across = 0 if axis is None else axis
    first = np.moveaxis(np.asarray(canonical.dataobj)[..., 0], across, 0)
    slices = file.read("")
    np.testing.assert_array_equal(slices[: len(first)], first)
    target = tmp_path / "copy.nii"
    file.write(target, {"": Result("", ArrayRows(slices, (1, 1, 1, -1)))}, "")
    assert target.read_bytes() == (tmp_path / "a.nii").read_bytes()


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize(
    ("dtype", "shape", "affine", "byte_order"),
    [
        (np.int16, (20, 24, 5), AFFINE, "<"),
        (np.int16, (20, 24, 5), np.eye(4), ">"),
        (np.uint8, (20, 24, 5), np.diag([-2, 2, 3, 1.0]), "<"),
        (np.float32, (20, 24, 5, 3), AFFINE, "<"),
        (np.float64, (20, 24, 5, 1), AFFINE, "<"),
        (np.complex64, (20, 24, 5), AFFINE, "<"),
        (np.float32, (20, 24), np.eye(4), "<"),
    ],
)
def test_nifti_is_the_same_file(
    tmp_path: Path, suffix: str, dtype: Any, shape: tuple[int, ...], affine: np.ndarray, byte_order: Any
) -> None:
    header = nibabel.nifti1.Nifti1Header(endianness=byte_order)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(byte_order))
    image = nibabel.Nifti1Image((100 * RNG.random(shape)).astype(dtype), affine, header=header)
    image.header["descrip"], image.header["cal_max"] = b"a text", 99
    image.header.set_xyzt_units("mm", "sec")
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"a comment"))
    path = tmp_path / f"a.{suffix}"
    nibabel.save(image, path)
    file, target, notes = copy(path)
    assert notes == [] and nifti_bytes(target) == nifti_bytes(path)
    assert len(file.facts[""].shape) == 3


def test_nifti_keeps_its_slope_and_stores_the_nearest_number(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(RNG.integers(-9000, 9000, (20, 24, 5), np.int16), AFFINE), tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<ff", content, 112, 0.013, -5.0)
    (tmp_path / "a.nii").write_bytes(content)
    _, target, _ = copy(tmp_path / "a.nii")
    assert target.read_bytes() == bytes(content)
    _, target, _ = copy(tmp_path / "a.nii", change=1.0)
    old, new = (nibabel.Nifti1Image.from_filename(path) for path in (tmp_path / "a.nii", target))
    assert new.header == old.header
    np.testing.assert_allclose(new.get_fdata() - old.get_fdata(), 1.0, atol=0.0066)


def test_nifti_2_is_the_same_file(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti2Image(SLICE[..., None].astype(np.uint16), AFFINE), tmp_path / "a.nii")
    assert copy(tmp_path / "a.nii")[1].read_bytes() == (tmp_path / "a.nii").read_bytes()
