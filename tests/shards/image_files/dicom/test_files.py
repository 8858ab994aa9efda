"""The pixels of DICOM files: black and white, signs, bits, scales, frames, compressions; and what is refused."""

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from quell.configs.errors import DataError
from quell.shards.image_files.image import suggested_data_range
from quell.shards.image_files.read import read_file, read_one
from tests.shards.image_files.dicom_files import PICTURE, make_dicom, write_dicom, write_enhanced


def read_pixels(path: Path) -> np.ndarray:
    return read_one(path).single()


@pytest.mark.parametrize(
    ("stored", "tags", "expected"),
    [
        (PICTURE, {}, PICTURE),
        (65535 - PICTURE, {"PhotometricInterpretation": "MONOCHROME1"}, PICTURE),
        (4095 - PICTURE, {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12}, PICTURE),
        ((255 - PICTURE).astype("u1"), {"PhotometricInterpretation": "MONOCHROME1"}, PICTURE),
        ((-1 - PICTURE.astype("i2")), {"PhotometricInterpretation": "MONOCHROME1"}, PICTURE),
        (
            4095 - PICTURE,
            {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "RescaleSlope": 2, "RescaleIntercept": -5},
            2.0 * PICTURE - 5,
        ),
        (PICTURE.astype("i2") - 200, {}, PICTURE.astype("i2") - 200),
        ((PICTURE.astype("i2") - 200) & 0x0FFF, {"BitsStored": 12}, PICTURE.astype("i2") - 200),
        (PICTURE, {"RescaleSlope": 0.5, "RescaleIntercept": -1024}, PICTURE * 0.5 - 1024),
        (PICTURE, {"RescaleSlope": -1, "RescaleIntercept": 1000}, 1000.0 - PICTURE),
        (PICTURE, {"RescaleSlope": "", "RescaleIntercept": ""}, PICTURE),
        (PICTURE, {"RescaleIntercept": 7}, PICTURE + 7.0),
        (PICTURE.astype("u1"), {}, PICTURE),
    ],
)
def test_stored_numbers_become_physical_ones(
    tmp_path: Path, stored: np.ndarray, tags: dict[str, Any], expected: np.ndarray
) -> None:
    image = read_one(write_dicom(tmp_path / "a.dcm", stored, **tags))
    assert np.array_equal(image.single(), expected) and image.pixels.dtype == np.float32
    if stored.dtype.kind == "u":
        assert np.array_equal(image.values.to_stored(image.pixels[0]), stored)


def test_a_modality_lookup_table_is_applied(tmp_path: Path) -> None:
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [256, 0, 16], "US"
    table.LUTData = (np.arange(256, dtype="<u2") ** 2 % 60000).tobytes()
    table["LUTData"].VR = "OW"
    path = write_dicom(tmp_path / "a.dcm", PICTURE.astype("u1"), ModalityLUTSequence=[table])
    assert np.array_equal(read_pixels(path), PICTURE.astype(float) ** 2 % 60000)


def test_overlays_in_unused_bits_are_removed_and_other_excess_is_refused(tmp_path: Path) -> None:
    marked = PICTURE.copy()
    marked[2:4] |= 0x8000
    with pytest.raises(DataError, match=r"a\.dcm: holds the number 32\d+, which BitsStored 12 does not allow"):
        read_pixels(write_dicom(tmp_path / "a.dcm", marked, BitsStored=12))
    data = make_dicom(marked, BitsStored=12)
    data.add_new(0x60000100, "US", 16)
    data.add_new(0x60000102, "US", 15)
    data.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    assert np.array_equal(read_pixels(tmp_path / "b.dcm"), PICTURE)
    with pytest.raises(DataError, match="HighBit 14"):
        read_pixels(write_dicom(tmp_path / "c.dcm", BitsStored=12, HighBit=14))


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_every_encoding_gives_the_same_pixels(tmp_path: Path, syntax: str) -> None:
    path = write_dicom(tmp_path / "a.dcm", syntax=syntax)
    image = read_one(path)
    assert np.array_equal(image.single(), PICTURE) and image.pixels.dtype.isnative


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("signed", [False, True])
def test_compressed_pixels_are_the_same(tmp_path: Path, syntax: str, signed: bool) -> None:
    if syntax == JPEGLSLossless and signed:
        return  # the encoder of pydicom refuses signed numbers
    stored = np.tile(PICTURE, (8, 8))
    stored = stored.astype("i2") - 150 if signed else stored
    data = make_dicom(stored)
    data.compress(syntax)
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert np.array_equal(read_pixels(tmp_path / "a.dcm"), stored)


@pytest.mark.parametrize("syntax", [JPEGLossless, JPEGLosslessSV1])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_lossless_jpeg_is_decoded(tmp_path: Path, syntax: str, dtype: str) -> None:
    stored = np.tile(PICTURE, (4, 4)).astype(dtype)
    frames = [
        bytes(imagecodecs.ljpeg_encode(each, bitspersample=8 * stored.itemsize)) for each in (stored, stored[::-1])
    ]
    data = make_dicom(np.stack([stored, stored]), NumberOfFrames=2)
    data.PixelData = encapsulate([frame + b"\0" * (len(frame) % 2) for frame in frames])
    data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
    data.file_meta.TransferSyntaxUID = UID(syntax)
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert np.array_equal(read_one(tmp_path / "a.dcm").pixels, [stored, stored[::-1]])


@pytest.mark.parametrize(("syntax", "bits"), [(JPEGBaseline8Bit, 8), (JPEGExtended12Bit, 12)])
def test_lossy_jpeg_is_decoded(tmp_path: Path, syntax: str, bits: int) -> None:
    stored = np.tile(np.arange(64) * (3 if bits == 8 else 60), (48, 1)).astype("u1" if bits == 8 else "u2")
    frame = bytes(imagecodecs.jpeg8_encode(stored, level=98, bitspersample=bits))
    data = make_dicom(stored, BitsStored=bits)
    data.PixelData = encapsulate([frame + b"\0" * (len(frame) % 2)])
    data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
    data.file_meta.TransferSyntaxUID = UID(syntax)
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert np.abs(read_pixels(tmp_path / "a.dcm") - stored).max() <= 2
    data.PixelData = encapsulate([frame[: len(frame) // 4 * 2]])
    data.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    with pytest.raises(DataError, match=r"b\.dcm: its pixels cannot be decoded"):
        read_pixels(tmp_path / "b.dcm")


def test_files_without_a_preamble_and_without_a_suffix_are_read(tmp_path: Path) -> None:
    whole = write_dicom(tmp_path / "IM_0001", syntax=ImplicitVRLittleEndian)
    assert np.array_equal(read_pixels(whole), PICTURE)
    uid = write_dicom(tmp_path / "1.2.840.113619.2", syntax=ImplicitVRLittleEndian)
    assert np.array_equal(read_pixels(uid), PICTURE)
    data = make_dicom(PICTURE, syntax=ImplicitVRLittleEndian)
    bare = Dataset()
    bare.update(data)
    bare.save_as(tmp_path / "bare.dcm", implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert (tmp_path / "bare.dcm").read_bytes()[128:132] != b"DICM"
    assert np.array_equal(read_pixels(tmp_path / "bare.dcm"), PICTURE)


def test_frames_of_a_file_are_a_stack(tmp_path: Path) -> None:
    frames = np.stack([PICTURE, PICTURE * 2, PICTURE * 3])
    image = read_one(write_dicom(tmp_path / "a.dcm", frames, NumberOfFrames=3, PixelSpacing=[0.5, 0.7]))
    assert np.array_equal(image.pixels, frames) and image.stack_axes == (("Z", 3),)
    assert [frame.number for frame in image.frames] == [0, 1, 2]
    scales: list[dict[str, Any]] = [{"z": 0, "slope": 1}, {"z": 1, "slope": 2, "intercept": -3}, {"z": 2, "slope": 0.5}]
    image = read_one(write_enhanced(tmp_path / "b.dcm", frames, scales))
    assert np.array_equal(image.pixels, [PICTURE, PICTURE * 4.0 - 3, PICTURE * 1.5])
    assert image.frames[1].position_mm == (0, 0, 1) and np.isnan(image.values.slope)
    with pytest.raises(DataError, match=r"c\.dcm: states 3 frames but describes 2"):
        read_file(write_enhanced(tmp_path / "c.dcm", frames, scales[:2]))


def test_floats_are_read_and_their_nans_named(tmp_path: Path) -> None:
    def write(name: str, image: np.ndarray) -> Path:
        data = make_dicom(PICTURE)
        del data.PixelData, data.BitsStored, data.HighBit, data.PixelRepresentation
        data.BitsAllocated, data.FloatPixelData = 32, image.astype("<f4").tobytes()
        data.save_as(tmp_path / name, enforce_file_format=True)
        return tmp_path / name

    image = PICTURE / np.float32(7)
    assert np.array_equal(read_pixels(write("a.dcm", image)), image)
    image[3, 4] = np.nan
    with pytest.raises(DataError, match=r"b\.dcm: slice 0, row 3, column 4 is NaN"):
        read_pixels(write("b.dcm", image))


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "YBR_FULL_422", "PALETTE COLOR", "YBR_ICT"])
def test_colour_is_refused_by_name(tmp_path: Path, photometric: str) -> None:
    samples = 1 if photometric == "PALETTE COLOR" else 3
    pixels = np.zeros((8, 10 * samples), np.uint8)
    path = write_dicom(
        tmp_path / "a.dcm",
        pixels,
        Columns=10,
        SamplesPerPixel=samples,
        PlanarConfiguration=0 if samples == 3 else None,
        PhotometricInterpretation=photometric,
    )
    with pytest.raises(DataError, match=rf"a\.dcm: photometric interpretation {photometric}; expected a grey image"):
        read_file(path)


def test_what_cannot_be_understood_is_refused_by_name(tmp_path: Path) -> None:
    whole = write_dicom(tmp_path / "whole.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[:-30])
    (tmp_path / "head.dcm").write_bytes(whole[:200])
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "text.dcm").write_text("not DICOM " * 50, encoding="utf-8")
    write_dicom(tmp_path / "zero.dcm", RescaleSlope=0)
    write_dicom(tmp_path / "hu.dcm", PhotometricInterpretation="MONOCHROME1", RescaleType="HU", RescaleIntercept=-1024)
    report = make_dicom(PICTURE)
    for name in ("Rows", "Columns", "PixelData"):
        del report[name]
    report.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    bare = make_dicom(PICTURE)
    del bare.PixelData
    bare.save_as(tmp_path / "bare.dcm", enforce_file_format=True)
    for name in ("cut", "head", "empty", "text", "zero", "hu", "report", "bare", "missing"):
        with pytest.raises(DataError, match=rf"{name}\.dcm: "):
            read_file(tmp_path / f"{name}.dcm")
    with pytest.raises(DataError, match="MONOCHROME1 with Hounsfield units"):
        read_file(tmp_path / "hu.dcm")
    with pytest.raises(DataError, match="without an image"):
        read_file(tmp_path / "report.dcm")


def test_the_bits_and_the_window_suggest_a_data_range(tmp_path: Path) -> None:
    image = read_one(write_dicom(tmp_path / "a.dcm", BitsStored=12, RescaleSlope=2))
    suggested = suggested_data_range(image)
    assert suggested is not None and suggested.value == 4095 * 2
    image = read_one(write_dicom(tmp_path / "b.dcm", WindowCenter=40, WindowWidth=400))
    assert image.values.window == (-160, 240)
    image = read_one(write_dicom(tmp_path / "c.dcm", WindowCenter=[40, 300], WindowWidth=[400, 1500]))
    assert image.values.window == (-160, 240)
    suggested = suggested_data_range(image)
    assert suggested is not None and suggested.value == 400
