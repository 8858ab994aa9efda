"""TIFF as cameras, scanners, ImageJ and microscopes write it: the pixels that a viewer shows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from quell.configs.errors import DataError
from quell.shards.image_files.image import suggested_data_range
from quell.shards.image_files.read import read_one
from tests.shards.image_files.pictures import GREY, RGB, stored_for

DEEP = (np.arange(48 * 64, dtype=np.uint32).reshape(48, 64) * 21 % 4096).astype(np.uint16)


def orientation_tag(value: int) -> tuple[int, str, int, int, bool]:
    return (274, "H", 1, value, True)


def write(path: Path, array: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, array, **options)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["grey", "rgb", "planar", "white"])
def test_the_orientation_tag_is_applied_and_can_be_undone(tmp_path: Path, orientation: int, kind: str) -> None:
    upright = GREY if kind in ("grey", "white") else RGB
    stored = stored_for(upright, orientation)
    options: dict[str, Any] = {"photometric": "minisblack"}
    if kind == "white":
        stored, options = 255 - stored, {"photometric": "miniswhite"}
    if kind == "rgb":
        options = {"photometric": "rgb"}
    if kind == "planar":
        stored = np.ascontiguousarray(np.moveaxis(stored, -1, 0))
        options = {"photometric": "rgb", "planarconfig": "separate"}
    path = write(tmp_path / "a.tif", stored, extratags=[orientation_tag(orientation)], **options)
    image = read_one(path)
    assert np.array_equal(image.single(), upright)
    assert np.array_equal(image.values.to_stored(image.to_file_layout(image.pixels)), stored)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8", "c8", "c16"])
def test_every_number_type_and_byte_order_keeps_its_values(tmp_path: Path, byteorder: Any, dtype: str) -> None:
    array = (DEEP % 120).astype(dtype)
    image = read_one(write(tmp_path / "a.tif", array, byteorder=byteorder)).single()
    assert np.array_equal(image, array) and image.dtype == np.dtype(dtype) and image.dtype.isnative


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4"])
def test_white_as_zero_is_turned_round(tmp_path: Path, dtype: str) -> None:
    array = DEEP.astype(dtype)
    stored = np.iinfo(dtype).max - array
    image = read_one(write(tmp_path / "a.tif", stored, photometric="miniswhite", byteorder=">"))
    assert np.array_equal(image.single(), array) and image.values.inverted
    assert np.array_equal(image.values.to_stored(image.pixels[0]), stored)


def test_white_as_zero_uses_the_bits_that_are_stored(tmp_path: Path) -> None:
    stored = (4095 - DEEP).astype(np.uint16)
    image = read_one(write(tmp_path / "a.tif", stored, photometric="miniswhite", bitspersample=12))
    assert np.array_equal(image.single(), DEEP) and image.values.bits_stored == 12
    Image.fromarray(GREY > 90).save(tmp_path / "b.tif")
    assert np.array_equal(read_one(tmp_path / "b.tif").single(), np.where(GREY > 90, 255, 0))
    Image.fromarray(GREY > 90).save(tmp_path / "c.tif", compression="group4")
    assert np.array_equal(read_one(tmp_path / "c.tif").single(), np.where(GREY > 90, 255, 0))
    for photometric, value in (("minisblack", 255), ("miniswhite", 0)):
        path = write(tmp_path / "d.tif", GREY > 90, photometric=photometric)
        assert np.array_equal(read_one(path).single(), np.where(GREY > 90, value, 255 - value))
        with Image.open(path) as file:
            assert np.array_equal(read_one(path).single(), np.asarray(file.convert("L")))


def test_white_as_zero_of_numbers_without_a_white_is_refused(tmp_path: Path) -> None:
    for dtype in ("f4", "i2", "c8"):
        with pytest.raises(DataError, match=r"a\.tif: white is stored as zero"):
            read_one(write(tmp_path / "a.tif", GREY.astype(dtype), photometric="miniswhite"))


def test_small_depths_fill_eight_bits_and_others_say_how_many_they_use(tmp_path: Path) -> None:
    for bits, factor in ((1, 255), (2, 85), (4, 17)):
        path = write(tmp_path / "a.tif", GREY % 2**bits, bitspersample=bits, photometric="minisblack")
        assert np.array_equal(read_one(path).single(), GREY % 2**bits * factor)
    image = read_one(write(tmp_path / "b.tif", DEEP, bitspersample=12))
    assert np.array_equal(image.single(), DEEP)
    suggested = suggested_data_range(image)
    assert suggested is not None and suggested.value == 4095 / 65535 and "12 of 16 bits" in suggested.reason
    image = read_one(write(tmp_path / "c.tif", DEEP, extratags=[(281, "H", 1, 1023, True)]))
    assert image.values.bits_stored == 10


def test_palettes_become_their_colours_and_grey_ones_grey(tmp_path: Path) -> None:
    entries = np.arange(256)
    inverse = np.repeat((entries[::-1] * 257).astype(np.uint16)[None], 3, 0)
    image = read_one(write(tmp_path / "a.tif", GREY, photometric="palette", colormap=inverse))
    assert np.array_equal(image.single(), 255 - GREY) and image.values.photometric == "PALETTE"
    colours = np.stack([entries * 257, entries[::-1] * 257, entries % 7 * 257]).astype(np.uint16)
    expected = np.stack([GREY, 255 - GREY, GREY % 7], axis=-1)
    path = write(tmp_path / "b.tif", GREY, photometric="palette", colormap=colours)
    assert np.array_equal(read_one(path).single(), expected)
    path = write(tmp_path / "c.tif", GREY, photometric="palette", colormap=colours // 257)  # 8-bit, as some write it
    assert np.array_equal(read_one(path).single(), expected)
    path = write(
        tmp_path / "e.tif",
        stored_for(GREY, 6),
        photometric="palette",
        colormap=colours,
        extratags=[orientation_tag(6)],
    )
    image = read_one(path)
    assert np.array_equal(image.single(), expected)
    assert np.array_equal(image.to_file_layout(image.pixels), stored_for(expected, 6))
    stack = np.stack([GREY, GREY[::-1]])
    pages = read_one(write(tmp_path / "f.tif", stack, photometric="palette", colormap=colours))
    assert pages.pixels.shape == (2, 48, 64, 3) and np.array_equal(pages.pixels[1], expected[::-1])


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (16, 16)},
        {"compression": "zlib"},
        {"compression": "lzw", "predictor": 2},
        {"compression": "zstd", "tile": (32, 32)},
        {"compression": "lzma"},
        {"compression": "packbits"},
        {"bigtiff": True},
        {"rowsperstrip": 5},
        {"photometric": "rgb", "planarconfig": "separate", "tile": (16, 16), "compression": "zlib"},
    ],
    ids=str,
)
def test_tilings_compressions_and_planes(tmp_path: Path, options: dict[str, Any]) -> None:
    upright = RGB if options.get("planarconfig") else DEEP
    stored = np.ascontiguousarray(np.moveaxis(upright, -1, 0)) if upright is RGB else upright
    assert np.array_equal(read_one(write(tmp_path / "a.tif", stored, **options)).single(), upright)


def test_jpeg_in_tiff_becomes_rgb(tmp_path: Path) -> None:
    smooth = np.dstack([np.tile(np.arange(64, dtype=np.uint8) * 3, (48, 1))] * 3)
    smooth[..., 1] = 200 - smooth[..., 1]
    for mode in ("RGB", "YCbCr"):
        Image.fromarray(smooth).convert(mode).save(tmp_path / "a.tif", compression="jpeg", quality=95)
        assert np.abs(read_one(tmp_path / "a.tif").single().astype(int) - smooth).mean() < 3
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "b.tif")
    assert np.abs(read_one(tmp_path / "b.tif").single().astype(int) - RGB).max() <= 1


def test_colours_without_a_meaning_here_are_refused_by_name(tmp_path: Path) -> None:
    Image.fromarray(RGB).convert("YCbCr").save(tmp_path / "ycbcr.tif")
    write(tmp_path / "cielab.tif", RGB, photometric="cielab")
    write(tmp_path / "cfa.tif", DEEP, photometric="cfa")
    write(tmp_path / "linear_raw.tif", np.dstack([DEEP] * 3), photometric="linear_raw")
    write(tmp_path / "logl.tif", DEEP, photometric="logl")
    for name in ("ycbcr", "cielab", "cfa", "linear_raw", "logl"):
        with pytest.raises(DataError, match=rf"{name}\.tif: photometric interpretation {name.upper()} is not"):
            read_one(tmp_path / f"{name}.tif")
    write(tmp_path / "inks.tif", np.dstack([DEEP] * 4), photometric="separated")
    with pytest.raises(DataError, match="only 8-bit CMYK"):
        read_one(tmp_path / "inks.tif")


def test_alpha_is_kept_apart_and_other_samples_stay_channels(tmp_path: Path) -> None:
    rgba = np.dstack([RGB, np.full_like(GREY, 255)])
    image = read_one(write(tmp_path / "a.tif", rgba, photometric="rgb", extrasamples=["unassalpha"]))
    assert np.array_equal(image.single(), RGB)
    assert np.array_equal(image.to_file_layout(image.pixels), rgba)
    rgba[5, 6, 3] = 7
    image = read_one(write(tmp_path / "b.tif", rgba, photometric="rgb", extrasamples=["assocalpha"]))
    with pytest.raises(DataError, match=r"b\.tif: 1 of 3072 pixels are transparent .*row 5, column 6"):
        image.single()
    grey_alpha = np.dstack([DEEP, np.full_like(DEEP, 65535)])
    options = {"photometric": "minisblack", "extrasamples": ["unassalpha"], "planarconfig": "contig"}
    assert np.array_equal(read_one(write(tmp_path / "c.tif", grey_alpha, **options)).single(), DEEP)
    options["photometric"] = "miniswhite"
    assert np.array_equal(read_one(write(tmp_path / "d.tif", grey_alpha, **options)).single(), 65535 - DEEP)
    planes = np.moveaxis(rgba, -1, 0).copy()
    planes[3] = 255
    options = {"photometric": "rgb", "extrasamples": ["unassalpha"], "planarconfig": "separate"}
    assert np.array_equal(read_one(write(tmp_path / "e.tif", planes, **options)).single(), RGB)
    six = np.dstack([RGB, RGB])
    path = write(tmp_path / "f.tif", six, photometric="minisblack", planarconfig="contig")
    assert np.array_equal(read_one(path).single(), six)


def test_pages_and_hyperstacks_keep_their_axes(tmp_path: Path) -> None:
    stack = np.stack([DEEP, DEEP[::-1], DEEP // 2])
    image = read_one(write(tmp_path / "a.tif", stack, photometric="minisblack"))
    assert np.array_equal(image.pixels, stack) and image.stack_axes == (("N", 3),) and len(image.frames) == 3
    with pytest.raises(DataError, match=r"a\.tif: holds a stack of 3 images"):
        image.single()
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        for page in stack:
            writer.write(page, metadata=None)
    assert np.array_equal(read_one(tmp_path / "b.tif").pixels, stack)
    hyper = np.arange(2 * 3 * 2 * 8 * 9, dtype=np.uint16).reshape(2, 3, 2, 8, 9)
    notes = {"axes": "TZCYX", "spacing": 3.0, "unit": "um", "finterval": 2.0, "min": 100.0, "max": 900.0}
    image = read_one(write(tmp_path / "c.tif", hyper, imagej=True, metadata=notes, resolution=(2, 4)))
    assert image.stack_axes == (("T", 2), ("Z", 3), ("C", 2)) and np.array_equal(image.plain, hyper)
    assert image.frames[5].identifier == "T=0 Z=2 C=1" and image.values.window == (100, 900)
    assert image.geometry.spacing_mm == pytest.approx((3e-3, 0.25e-3, 0.5e-3))
    image = read_one(write(tmp_path / "d.ome.tif", hyper, ome=True, metadata={"axes": "TZCYX"}))
    assert np.array_equal(image.plain, hyper) and image.stack_axes == (("T", 2), ("Z", 3), ("C", 2))
    colours = np.stack([RGB, RGB[::-1]])
    image = read_one(write(tmp_path / "e.tif", colours, imagej=True, metadata={"axes": "TYXS"}))
    assert np.array_equal(image.pixels, colours) and image.stack_axes == (("T", 2),)
    assert read_one(write(tmp_path / "f.tif", stack[:1])).pixels.shape == (1, 48, 64)


def test_smaller_copies_are_passed_over_and_other_images_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(GREY, metadata=None)
        writer.write(GREY[::2, ::2].copy(), metadata=None, subfiletype=1)
    assert np.array_equal(read_one(tmp_path / "a.tif").single(), GREY)
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        writer.write(GREY, subifds=1)
        writer.write(GREY[::2, ::2].copy(), subfiletype=1)
    assert np.array_equal(read_one(tmp_path / "b.tif").single(), GREY)
    for name, other in (("c", GREY[:20].copy()), ("d", DEEP), ("e", RGB)):
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as writer:
            writer.write(GREY, metadata=None)
            writer.write(other, metadata=None)
        with pytest.raises(DataError, match=rf"{name}\.tif: holds 2 images of different kinds"):
            read_one(tmp_path / f"{name}.tif")
    with tifffile.TiffWriter(tmp_path / "f.tif") as writer:
        writer.write(GREY, metadata=None)
        writer.write(GREY, metadata=None, extratags=[orientation_tag(3)])
    with pytest.raises(DataError, match="different orientation tags"):
        read_one(tmp_path / "f.tif")


def test_numbers_that_are_not_finite_are_named(tmp_path: Path) -> None:
    stack = np.zeros((3, 8, 9), np.float32)
    stack[1, 2, 3], stack[2, 0, 0] = np.nan, np.inf
    with pytest.raises(DataError, match=r"a\.tif: slice 1, row 2, column 3 is NaN \(2 of 216 values"):
        read_one(write(tmp_path / "a.tif", stack, photometric="minisblack"))
    stack[1, 2, 3] = 0
    with pytest.raises(DataError, match=r"a\.tif: slice 2, row 0, column 0 is Inf"):
        read_one(write(tmp_path / "a.tif", stack, photometric="minisblack"))


def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    data = write(tmp_path / "whole.tif", DEEP, compression="zlib").read_bytes()
    (tmp_path / "cut.tif").write_bytes(data[: len(data) // 2])
    (tmp_path / "start.tif").write_bytes(data[:8])
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "text.tif").write_text("no image", encoding="utf-8")
    for name in ("cut", "start", "empty", "text", "missing"):
        with pytest.raises(DataError, match=rf"{name}\.tif"):
            read_one(tmp_path / f"{name}.tif")


@pytest.mark.parametrize(
    "options",
    [
        {"imagej": True},
        {"ome": True, "metadata": {"axes": "TYX"}},
        {"ome": True, "metadata": {"axes": "TYX"}, "compression": "zlib"},
        {"photometric": "minisblack"},
        {"photometric": "minisblack", "compression": "zlib"},
        {"photometric": "minisblack", "tile": (16, 16)},
        {"photometric": "minisblack", "metadata": None},
    ],
    ids=str,
)
def test_a_stack_that_was_cut_short_is_never_read_as_a_shorter_one(tmp_path: Path, options: dict[str, Any]) -> None:
    stack = np.stack([DEEP + page for page in range(4)])
    path = tmp_path / ("a.ome.tif" if "ome" in options else "a.tif")
    whole = write(path, stack, **options).read_bytes()
    refused = 0
    for length in range(300, len(whole) - 1, len(whole) // 23):
        path.write_bytes(whole[:length])
        try:
            read = read_one(path)
        except DataError as error:
            assert path.name in str(error)
            refused += 1
        else:
            assert np.array_equal(read.pixels, stack)
    assert refused > 15


def test_missing_tiles_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", DEEP, tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as file:
        tag = file.pages.first.tags["TileByteCounts"]
        tag.overwrite((0, *tag.value[1:]))
    with pytest.raises(DataError, match=r"a\.tif: damaged: 1 of 12 strips or tiles are missing"):
        read_one(path)


def test_the_message_about_a_damaged_file_is_short(tmp_path: Path) -> None:
    data = write(tmp_path / "a.tif", DEEP, compression="zlib").read_bytes()
    for place in range(8, 300, 7):
        damaged = bytearray(data)
        damaged[place] ^= 255
        (tmp_path / "b.tif").write_bytes(damaged)
        try:
            read_one(tmp_path / "b.tif")
        except DataError as error:
            assert "b.tif" in str(error) and len(str(error)) < 400 and "\n" not in str(error)
