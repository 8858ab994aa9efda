"""PNG, JPEG, BMP and WebP in every form that cameras and programs write: the pixels that a viewer shows."""

import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quell.configs.errors import DataError, MachineError
from quell.shards.image_files.read import read_file, read_one
from tests.shards.image_files.pictures import GREY, RGB, stored_for


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def write_png(
    path: Path, depth: int, colour: int, rows: list[bytes], width: int, before: bytes = b"", after: bytes = b""
) -> Path:
    """A PNG from raw rows of packed samples, with further chunks before and after the pixels."""
    start = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + before + chunk(b"IDAT", pixels) + after + chunk(b"IEND", b"")
    )
    return path


def exif(orientation: int) -> bytes:
    data = Image.Exif()
    data[0x0112] = orientation
    return data.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
@pytest.mark.parametrize("upright", [GREY, RGB], ids=["grey", "rgb"])
def test_the_exif_orientation_is_applied_and_can_be_undone(
    tmp_path: Path, orientation: int, suffix: str, upright: np.ndarray
) -> None:
    path = tmp_path / f"a{suffix}"
    stored = stored_for(upright, orientation)
    options = (
        {"lossless": True} if suffix == ".webp" else {"quality": 100, "subsampling": 0} if suffix == ".jpg" else {}
    )
    Image.fromarray(stored).save(path, exif=exif(orientation), **options)
    image = read_one(path)
    with Image.open(path) as file:
        decoded = np.asarray(file)
    read = image.single()
    expected = upright if suffix != ".webp" or upright.ndim == 3 else np.stack([upright] * 3, axis=-1)
    assert read.shape == expected.shape
    assert np.abs(read.astype(int) - expected).max() <= (12 if suffix == ".jpg" else 0)
    assert np.array_equal(image.to_file_layout(image.pixels), decoded)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_is_not_defined_turns_nothing(tmp_path: Path, orientation: int) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=exif(orientation))
    assert np.array_equal(read_one(tmp_path / "a.png").single(), GREY)


def test_damaged_exif_does_not_keep_an_image_from_being_read(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0\xff\xff\0\x99")
    assert np.array_equal(read_one(tmp_path / "a.png").single(), GREY)


def test_exif_after_the_pixels_of_a_png_counts_too(tmp_path: Path) -> None:
    late = chunk(b"eXIf", exif(6).removeprefix(b"Exif\0\0"))
    path = write_png(tmp_path / "a.png", 8, 0, [bytes(row) for row in stored_for(GREY, 6)], 48, after=late)
    assert np.array_equal(read_one(path).single(), GREY)


@pytest.mark.parametrize(
    ("depth", "row", "expected"),
    [
        (1, b"\xa0", [255, 0, 255, 0]),
        (2, b"\x1b", [0, 85, 170, 255]),
        (4, b"\x0f\x7a", [0, 255, 119, 170]),
        (8, b"\0\x01\x80\xff", [0, 1, 128, 255]),
    ],
)
def test_small_grey_pngs_fill_eight_bits(tmp_path: Path, depth: int, row: bytes, expected: list[int]) -> None:
    image = read_one(write_png(tmp_path / "a.png", depth, 0, [row], 4)).single()
    assert image.dtype == np.uint8 and image.tolist() == [expected]


def test_deep_pngs_keep_sixteen_bits(tmp_path: Path) -> None:
    numbers = np.array([[258, 65534, 1], [3, 700, 9]], ">u2")
    grey = read_one(write_png(tmp_path / "g.png", 16, 0, [row.tobytes() for row in numbers], 3))
    assert grey.single().dtype == np.uint16 and np.array_equal(grey.single(), numbers)
    assert grey.single().dtype.isnative and grey.values.bits_stored == 16
    rgb = read_one(write_png(tmp_path / "c.png", 16, 2, [row.tobytes() for row in numbers], 1)).single()
    assert np.array_equal(rgb, numbers[:, None])
    opaque = np.array([[258, 65535], [3, 65535]], ">u2")
    image = read_one(write_png(tmp_path / "la.png", 16, 4, [row.tobytes() for row in opaque], 1))
    assert np.array_equal(image.single(), [[258], [3]]) and image.alpha is not None and image.alpha.dtype == np.uint16
    rgba = np.array([[258, 65534, 1, 65535]], ">u2")
    assert read_one(write_png(tmp_path / "rgba.png", 16, 6, [rgba.tobytes()], 1)).single().tolist() == [
        [[258, 65534, 1]]
    ]


def test_palettes_become_their_colours_and_grey_ones_grey(tmp_path: Path) -> None:
    colours = chunk(b"PLTE", bytes([9, 9, 9, 1, 2, 3, 200, 100, 50]))
    path = write_png(tmp_path / "a.png", 8, 3, [b"\0\x01\x02"], 3, before=colours)
    assert read_one(path).single().tolist() == [[[9, 9, 9], [1, 2, 3], [200, 100, 50]]]
    greys = chunk(b"PLTE", bytes([250, 250, 250, 7, 7, 7]))
    assert read_one(write_png(tmp_path / "b.png", 8, 3, [b"\0\x01\0"], 3, before=greys)).single().tolist() == [
        [250, 7, 250]
    ]
    assert read_one(write_png(tmp_path / "c.png", 1, 3, [b"\xa0"], 3, before=greys)).single().tolist() == [[7, 250, 7]]
    for mode, expected in (("P", RGB // 64 * 64), ("L", GREY)):
        picture = Image.fromarray(expected)
        picture = picture.quantize(256) if mode == "P" else picture
        picture.save(tmp_path / "d.bmp")
        assert np.array_equal(
            read_one(tmp_path / "d.bmp").single(), np.asarray(picture.convert("RGB" if mode == "P" else "L"))
        )


@pytest.mark.parametrize(
    ("depth", "colour", "row", "before"),
    [
        (8, 0, b"\x01\x02", chunk(b"tRNS", b"\0\x01")),
        (16, 0, b"\x01\x02\xff\xfe", chunk(b"tRNS", b"\x01\x02")),
        (8, 2, b"\1\2\3\4\5\6", chunk(b"tRNS", b"\0\1\0\2\0\3")),
        (8, 3, b"\0\x01", chunk(b"PLTE", b"\1\1\1\5\6\7") + chunk(b"tRNS", b"\0\xff")),
        (8, 3, b"\0\x01", chunk(b"PLTE", b"\1\1\1\5\5\5") + chunk(b"tRNS", b"\x80")),
        (8, 4, b"\x01\0\x02\xff", b""),
        (8, 6, b"\1\2\3\x00\4\5\6\xff", b""),
        (16, 6, b"\1\1\2\2\3\3\0\0" + b"\4\4\5\5\6\6\xff\xff", b""),
        (16, 4, b"\1\1\0\0" + b"\4\4\xff\xff", b""),
    ],
)
def test_transparent_pixels_are_kept_apart_and_refused_by_builders(
    tmp_path: Path, depth: int, colour: int, row: bytes, before: bytes
) -> None:
    image = read_one(write_png(tmp_path / "a.png", depth, colour, [row], 2, before=before))
    assert image.alpha is not None and image.alpha.shape == (1, 1, 2)
    assert image.alpha[0, 0, 0] < image.alpha[0, 0, 1] == np.iinfo(image.alpha.dtype).max
    with pytest.raises(DataError, match="1 of 2 pixels are transparent .*row 0, column 0"):
        image.single()


def test_opaque_alpha_is_no_channel(tmp_path: Path) -> None:
    opaque = np.full_like(GREY, 255)
    Image.fromarray(np.dstack([RGB, opaque])).save(tmp_path / "a.png")
    Image.fromarray(np.dstack([GREY, opaque])).save(tmp_path / "b.png")
    Image.fromarray(np.dstack([RGB, opaque])).save(tmp_path / "c.webp", lossless=True)
    assert np.array_equal(read_one(tmp_path / "a.png").single(), RGB)
    assert np.array_equal(read_one(tmp_path / "b.png").single(), GREY)
    assert np.array_equal(read_one(tmp_path / "c.webp").single(), RGB)
    image = read_one(tmp_path / "b.png")
    assert np.array_equal(image.to_file_layout(image.pixels), np.dstack([GREY, opaque]))


def test_cmyk_and_grey_jpegs(tmp_path: Path) -> None:
    Image.fromarray(RGB // 16 * 16).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    image = read_one(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as file:
        assert np.array_equal(image.single(), np.asarray(file.convert("RGB")))
    smooth = np.tile(np.arange(64, dtype=np.uint8) * 3, (48, 1))
    Image.fromarray(np.dstack([smooth, smooth, smooth])).convert("CMYK").save(tmp_path / "b.jpg", quality=100)
    assert np.abs(read_one(tmp_path / "b.jpg").single()[..., 0].astype(int) - smooth).max() < 8
    assert image.values.photometric == "CMYK"
    Image.fromarray(smooth).save(tmp_path / "c.jpeg", quality=100)
    assert np.abs(read_one(tmp_path / "c.jpeg").single().astype(int) - smooth).max() < 4


def test_bmp_is_read_from_either_end(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.bmp")
    assert np.array_equal(read_one(tmp_path / "a.bmp").single(), RGB)
    data = bytearray((tmp_path / "a.bmp").read_bytes())
    data[22:26] = struct.pack("<i", -48)  # a negative height: the first row comes first
    (tmp_path / "a.bmp").write_bytes(data)
    assert np.array_equal(read_one(tmp_path / "a.bmp").single(), RGB[::-1])
    Image.fromarray(GREY > 100).save(tmp_path / "b.bmp")
    assert np.array_equal(read_one(tmp_path / "b.bmp").single(), np.where(GREY > 100, 255, 0))


def test_the_content_decides_and_not_the_suffix(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    image = read_one(tmp_path / "a.jpg")
    assert np.array_equal(image.single(), GREY) and image.format == "png"
    Image.fromarray(GREY).save(tmp_path / "b.tif")
    (tmp_path / "b.tif").rename(tmp_path / "b.png")
    assert read_one(tmp_path / "b.png").format == "tiff"
    Image.fromarray(RGB).save(tmp_path / "c.png")
    (tmp_path / "c.png").rename(tmp_path / "c.tif")
    assert np.array_equal(read_one(tmp_path / "c.tif").single(), RGB)


@pytest.mark.parametrize(
    ("name", "package", "module"), [("a.dcm", "pydicom", "dicom.files"), ("a.nii.gz", "nibabel", "nifti")]
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for loaded in [loaded for loaded in sys.modules if loaded.startswith("quell.shards.image_files.")]:
        if loaded.startswith(f"quell.shards.image_files.{module.partition('.')[0]}"):
            monkeypatch.delitem(sys.modules, loaded)
    with pytest.raises(MachineError, match=f"{name}: needs the package '{package}'; pip install {package}"):
        read_file(tmp_path / name)


def test_what_is_no_image_is_refused_by_name(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "gif.png", format="GIF")
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, format="JPEG")
    (tmp_path / "cut.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("<html>not found</html>", encoding="utf-8")
    frames = [Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    for name in ("gif.png", "cut.jpg", "empty.png", "text.png", "moving.webp", "moving.png", "missing.png"):
        with pytest.raises(DataError, match=name):
            read_one(tmp_path / name)
    with pytest.raises(DataError, match="animation of 2 frames"):
        read_one(tmp_path / "moving.png")


def test_a_photograph_with_a_second_picture_gives_the_first(tmp_path: Path) -> None:
    pictures = [Image.fromarray(RGB // 8 * 8), Image.fromarray(RGB[::-1] // 8 * 8)]
    pictures[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=pictures[1:], quality=100)
    pictures[0].save(tmp_path / "b.jpg", quality=100)
    assert np.array_equal(read_one(tmp_path / "a.jpg").single(), read_one(tmp_path / "b.jpg").single())
