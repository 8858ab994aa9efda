"""A copy that is written with the pixels that were read differs from its source in nothing."""

import io
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, JpegImagePlugin, PngImagePlugin

from quell.configs.errors import DataError
from quell.launch.inference.files.large_tiff import LargeTiff
from quell.launch.inference.files.open_file import open_file
from quell.launch.inference.files.opened import ArrayRows, OpenedFile, Result
from quell.launch.inference.files.stored_file import StoredFile
from quell.shards.image_files.read import read_file

RNG = np.random.default_rng(7)
GREY = RNG.integers(0, 256, (40, 30), np.uint8)
COLOUR = RNG.integers(0, 256, (40, 30, 3), np.uint8)
SMOOTH = np.dstack([np.add.outer(np.arange(40), np.arange(30)).astype(np.uint8) * k for k in (1, 2, 3)])
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
NOT_COMPARED = {273, 279, 324, 325}
"""TIFF tags that say where the pixels are in the file."""


def exif(orientation: int = 6) -> Image.Exif:
    """EXIF with a maker and an orientation."""
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = orientation, "Maker"
    return tags


def opened(path: Path) -> Image.Image:
    """A picture with its pixels, and no file left open."""
    with Image.open(path) as file:
        file.load()
    return file


def copy(path: Path, channels: int = 1, *, change: int = 0) -> tuple[OpenedFile, Path, list[str]]:
    """Write a copy with the pixels that were read, plus `change`: the opened file, the copy, the notes."""
    file = open_file(path, channels)
    file.check_writable()
    target = path.with_name(f"copy-{path.name}")
    results = {
        name: Result(name, ArrayRows(file.read(name) + file.facts[name].dtype.type(change), (1, 1, 1, -1)))
        for name in file.facts
    }
    return file, target, file.write(target, results, "restored by a test")


def png_chunks(path: Path) -> list[tuple[bytes, bytes]]:
    """All chunks of a PNG but the pixels."""
    content, position, found = path.read_bytes(), 8, []
    while position < len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        found.append((kind, content[position + 8 : position + 8 + length]))
        position += 12 + length
    return [chunk for chunk in found if chunk[0] != b"IDAT"]


def tags(path: Path) -> list[dict[int, Any]]:
    """Type and value of every tag of every page, without the places of the pixels."""
    with tifffile.TiffFile(path) as file:
        return [
            {tag.code: (tag.dtype, str(tag.value)) for tag in page.aspage().tags if tag.code not in NOT_COMPARED}
            for page in file.pages
        ]


@pytest.mark.parametrize(
    ("mode", "pixels"),
    [
        ("L", GREY),
        ("RGB", COLOUR),
        ("RGBA", np.dstack([COLOUR, GREY])),
        ("LA", np.dstack([GREY, GREY])),
        ("I;16", GREY.astype(np.uint16) * 257),
        ("1", GREY > 100),
    ],
)
def test_png_keeps_every_chunk(tmp_path: Path, mode: str, pixels: np.ndarray) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "someone", zip=True)
    info.add_itxt("Comment", "für alle")
    info.add(b"gAMA", struct.pack(">I", 45455))
    info.add(b"tIME", bytes(7))
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path, pnginfo=info, exif=exif(), icc_profile=PROFILE, dpi=(72, 144))
    assert opened(path).mode == mode
    _, target, notes = copy(path, 3)
    assert notes == []
    assert png_chunks(target) == png_chunks(path)
    np.testing.assert_array_equal(np.asarray(opened(target)), np.asarray(opened(path)))


def test_png_of_16_bit_colour_keeps_its_bits(tmp_path: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    pixels = RNG.integers(0, 65536, (20, 30, 3), np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))
    file, target, _ = copy(tmp_path / "a.png", 3)
    assert file.facts[""].dtype == np.uint16
    np.testing.assert_array_equal(imagecodecs.png_decode(target.read_bytes()), pixels)
    results = {"": Result("", ArrayRows(np.moveaxis(np.moveaxis(pixels, 2, 0).copy(), 0, 2), (1, 1, 1, -1)))}
    file.write(target, results, "not contiguous, as restored images are")
    np.testing.assert_array_equal(imagecodecs.png_decode(target.read_bytes()), pixels)


def test_lossless_jpeg_becomes_an_ordinary_one_and_says_so(tmp_path: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    (tmp_path / "a.jpg").write_bytes(imagecodecs.ljpeg_encode(np.ascontiguousarray(SMOOTH[..., 0])))
    _, target, notes = copy(tmp_path / "a.jpg")
    assert "lossless JPEG" in notes[0]
    assert np.abs(np.asarray(opened(target)).astype(int) - SMOOTH[..., 0]).max() <= 2


@pytest.mark.parametrize("channels", [1, 3])
def test_png_with_a_palette_becomes_plain_and_says_so(tmp_path: Path, channels: int) -> None:
    source = Image.fromarray(GREY if channels == 1 else SMOOTH).convert("P")
    source.save(tmp_path / "a.png")
    _, target, notes = copy(tmp_path / "a.png", channels)
    assert "palette" in notes[0]
    expected = np.asarray(source.convert("L" if channels == 1 else "RGB"))
    np.testing.assert_array_equal(np.asarray(opened(target)), expected)


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (SMOOTH, {"quality": 83, "subsampling": 2}),
        (SMOOTH, {"quality": 92, "subsampling": 0, "progressive": True}),
        (GREY, {"quality": 60}),
    ],
)
def test_jpeg_keeps_its_markers_tables_and_subsampling(tmp_path: Path, pixels: np.ndarray, options: Any) -> None:
    path = tmp_path / "a.jpg"
    extra: dict[str, Any] = {
        "exif": exif(),
        "icc_profile": PROFILE,
        "comment": b"hello",
        "dpi": (99, 98),
        "xmp": b"<x/>",
    }
    Image.fromarray(pixels).save(path, **extra, **options)
    file, target, notes = copy(path, 3 if pixels.ndim == 3 else 1)
    assert file.facts[""].shape[:2] == (30, 40)  # upright
    assert "JPEG loses a little" in notes[0]
    old, new = opened(path), opened(target)
    assert isinstance(old, JpegImagePlugin.JpegImageFile) and isinstance(new, JpegImagePlugin.JpegImageFile)
    assert new.applist == old.applist and new.info == old.info and new.quantization == old.quantization
    if pixels.ndim == 3:
        assert JpegImagePlugin.get_sampling(new) == JpegImagePlugin.get_sampling(old)
        assert np.abs(np.asarray(new).astype(int) - np.asarray(old)).max() <= 12


def test_jpeg_whose_colours_are_stored_as_rgb_stays_so(tmp_path: Path) -> None:
    Image.fromarray(SMOOTH).save(tmp_path / "a.jpg", quality=95, keep_rgb=True)
    _, target, _ = copy(tmp_path / "a.jpg", 3)
    assert opened(target).info["adobe_transform"] == 0
    assert np.abs(np.asarray(opened(target)).astype(int) - SMOOTH).max() <= 3


@pytest.mark.parametrize("lossless", [True, False])
def test_webp_keeps_its_metadata(tmp_path: Path, lossless: bool) -> None:
    path = tmp_path / "a.webp"
    Image.fromarray(COLOUR).save(path, lossless=lossless, exif=exif(), icc_profile=PROFILE, xmp=b"<x/>")
    _, target, notes = copy(path, 3)
    assert bool(notes) != lossless
    old, new = opened(path), opened(target)
    np.testing.assert_array_equal(np.asarray(new), np.asarray(old))
    assert new.info == old.info


@pytest.mark.parametrize("pixels", [GREY, COLOUR, np.dstack([COLOUR, GREY])])
def test_bmp_is_the_same_file(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.bmp", dpi=(100, 200))
    _, target, notes = copy(tmp_path / "a.bmp", 3)
    assert notes == [] and target.read_bytes() == (tmp_path / "a.bmp").read_bytes()


TIFFS: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "white is zero": (GREY, {"photometric": "miniswhite"}),
    "grey palette": (GREY, {"photometric": "palette", "colormap": np.repeat(np.arange(256)[None, ::-1] * 257, 3, 0)}),
    "turned": (GREY, {"extratags": [(274, "H", 1, 6, True)]}),
    "bits": (GREY > 100, {}),
    "bits, white is zero": (GREY > 100, {"photometric": "miniswhite"}),
    "colour, turned": (COLOUR, {"photometric": "rgb", "extratags": [(274, "H", 1, 8, True)]}),
    "planar, big endian": (np.moveaxis(COLOUR, -1, 0), {"photometric": "rgb", "planarconfig": 2, "byteorder": ">"}),
    "opacity": (np.dstack([COLOUR, GREY]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "signed": (GREY.astype(np.int16) - 300, {"byteorder": ">"}),
    "double": (GREY / 3, {}),
    "half": (GREY.astype(np.float16), {}),
    "complex": ((GREY + 1j * GREY[::-1]).astype(np.complex64), {}),
    "32 bits": (GREY.astype(np.uint32) << 20, {}),
    "big": (GREY, {"bigtiff": True}),
    "imagej": (
        RNG.integers(0, 9999, (2, 3, 4, 20, 30)).astype(np.uint16),
        {
            "imagej": True,
            "resolution": (10, 20),
            "metadata": {"axes": "TZCYX", "spacing": 2.5, "unit": "um", "finterval": 0.5, "Labels": ["x"] * 24},
        },
    ),
    "ome": (
        RNG.random((2, 3, 20, 30)).astype(np.float32),
        {"ome": True, "metadata": {"axes": "TZYX", "PhysicalSizeX": 0.3, "PhysicalSizeXUnit": "um"}},
    ),
    "description": (GREY, {"description": "a text", "software": "x", "resolution": (3, 4), "datetime": True}),
}


@pytest.mark.parametrize("name", TIFFS)
def test_uncompressed_tiff_is_the_same_file(tmp_path: Path, name: str) -> None:
    pixels, options = TIFFS[name]
    if "colormap" in options:
        options = options | {"colormap": options["colormap"].astype(np.uint16)}
    path = tmp_path / ("a.ome.tif" if name == "ome" else "a.tif")
    tifffile.imwrite(path, np.ascontiguousarray(pixels), **options)
    _, target, notes = copy(path, 3 if pixels.shape[-1] in (3, 4) or pixels.shape[0] == 3 else 1)
    assert notes == [] and target.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("byte_order", "<>")
@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize(
    ("compression", "predictor"),
    [("zlib", False), ("zlib", True), ("lzw", True), ("packbits", False), ("zstd", True), ("lzma", False)],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_compressed_tiff_keeps_compression_tiles_and_tags(
    tmp_path: Path, byte_order: Any, tile: Any, compression: str, predictor: bool, dtype: Any
) -> None:
    pytest.importorskip("imagecodecs")
    pixels = (200 * RNG.random((3, 45, 70))).astype(dtype)
    layout: dict[str, Any] = {"tile": tile} if tile else {"rowsperstrip": 10}
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels,
        byteorder=byte_order,
        compression=compression,
        predictor=predictor,
        photometric="minisblack",
        **layout,
    )
    _, target, notes = copy(tmp_path / "a.tif", change=7)
    assert notes == [] and tags(target) == tags(tmp_path / "a.tif")
    np.testing.assert_array_equal(tifffile.imread(target), pixels + dtype(7))


def test_lossy_tiff_is_written_without_further_loss_and_says_so(tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs")
    cases: list[tuple[str, np.ndarray, dict[str, Any]]]
    cases = [("grey", SMOOTH[..., 0], {}), ("ycbcr", SMOOTH, {"photometric": "rgb"})]
    for name, pixels, options in cases:
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, pixels, compression="jpeg", **options)
        _, target, notes = copy(path, 3 if pixels.ndim == 3 else 1)
        assert "deflate" in notes[0]
        np.testing.assert_array_equal(tifffile.imread(target), tifffile.imread(path))


def test_smaller_levels_of_a_tiff_are_made_from_the_new_pixels(tmp_path: Path) -> None:
    pixels = np.kron(RNG.integers(0, 200, (32, 32)), np.ones((2, 2))).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(pixels, subifds=1, tile=(16, 16))
        writer.write(pixels[::2, ::2], subfiletype=1, tile=(16, 16))
    _, target, notes = copy(tmp_path / "a.tif", change=9)
    with tifffile.TiffFile(target) as file:
        np.testing.assert_array_equal(file.series[0].levels[0].asarray(), pixels + 9)
        np.testing.assert_array_equal(file.series[0].levels[1].asarray(), pixels[::2, ::2] + 9)
    assert "smaller copies" in notes[0]


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (GREY, {"photometric": "miniswhite"}),
        (GREY, {"tile": (16, 16), "compression": "zlib", "photometric": "miniswhite"}),
        (COLOUR, {"photometric": "rgb", "rowsperstrip": 7, "compression": "zlib"}),
        (np.moveaxis(COLOUR, -1, 0), {"photometric": "rgb", "planarconfig": 2, "tile": (16, 16)}),
        (np.stack([GREY] * 3 + [GREY.T[:30, :30].repeat(2, 0)[:40]]), {"photometric": "minisblack"}),
        (GREY.astype(np.uint16) * 200, {"byteorder": ">", "rowsperstrip": 16}),
    ],
)
def test_reading_in_parts_gives_what_reading_at_once_gives(tmp_path: Path, pixels: np.ndarray, options: Any) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.ascontiguousarray(pixels), **options)
    assert LargeTiff.suits(path)
    large, (image,) = LargeTiff(path), read_file(path)
    plain = image.plain
    assert large.facts[""].shape == plain.shape and large.facts[""].dtype == plain.dtype
    np.testing.assert_array_equal(large.read(""), plain)
    stack = plain.reshape(len(image.pixels), *image.pixels.shape[1:3], -1)
    results = {"": Result("", ArrayRows(stack, stack.shape))}
    large.write(tmp_path / "b.tif", results, "")
    large.release()
    np.testing.assert_array_equal(read_file(tmp_path / "b.tif")[0].pixels, image.pixels)
    assert tags(tmp_path / "b.tif") == tags(path)


def test_arrays_keep_byte_order_memory_order_and_compression(tmp_path: Path) -> None:
    array = RNG.random((5, 20, 30)).astype(">f4")
    np.save(tmp_path / "a.npy", np.asfortranarray(array))
    _, target, _ = copy(tmp_path / "a.npy")
    assert target.read_bytes() == (tmp_path / "a.npy").read_bytes()
    np.savez_compressed(tmp_path / "a.npz", a=array, b=array[0].astype(np.int16))
    _, target, _ = copy(tmp_path / "a.npz")
    old, new = np.load(tmp_path / "a.npz"), np.load(target)
    assert {name: new[name].dtype.str for name in new.files} == {name: old[name].dtype.str for name in old.files}
    assert target.stat().st_size < array.nbytes


def test_h5_keeps_attributes_groups_chunks_filters_and_other_datasets(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["patient"] = "someone"
        group = file.create_group("scan")
        group.attrs["te_ms"] = 27.0
        images = group.create_dataset(
            "images", data=RNG.random((4, 20, 30)).astype(">f4"), chunks=(1, 20, 30), compression="gzip", shuffle=True
        )
        images.attrs["unit"] = "a.u."
        file["header"] = "<xml/>"
        file["mask"] = np.arange(30)
        file["link"] = h5py.SoftLink("/header")
    _, target, _ = copy(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as old, h5py.File(target) as new:
        assert list(new) == list(old) and dict(new.attrs) == dict(old.attrs)
        assert dict(new["scan"].attrs) == dict(old["scan"].attrs)
        for name in ("chunks", "compression", "shuffle", "dtype"):
            assert getattr(new["scan/images"], name) == getattr(old["scan/images"], name)
        assert dict(new["scan/images"].attrs) == dict(old["scan/images"].attrs)
        np.testing.assert_array_equal(new["scan/images"][()], old["scan/images"][()])
        assert new["header"][()] == old["header"][()] and isinstance(new.get("link", getlink=True), h5py.SoftLink)


def test_fastmri_files_are_restored_without_tripping_over_kspace(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"] = (RNG.random((2, 40, 30)) + 0j).astype(np.complex64)
        file["reconstruction_esc"] = RNG.random((2, 32, 30)).astype(np.float32)
        file["ismrmrd_header"] = b"<xml/>"
        file.attrs["acquisition"] = "CORPD_FBK"
    file, target, _ = copy(tmp_path / "a.h5", change=1)
    assert list(file.facts) == ["reconstruction_esc"]
    with h5py.File(tmp_path / "a.h5") as old, h5py.File(target) as new:
        assert sorted(new) == sorted(old) and dict(new.attrs) == dict(old.attrs)
        np.testing.assert_array_equal(new["kspace"][()], old["kspace"][()])
        np.testing.assert_array_equal(new["reconstruction_esc"][()], old["reconstruction_esc"][()] + 1)


def test_images_that_were_computed_from_kspace_are_added_to_it(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"] = (RNG.random((2, 40, 30)) + 0j).astype(np.complex64)
    _, target, _ = copy(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as old, h5py.File(target) as new:
        assert sorted(new) == ["kspace", "reconstruction"]
        np.testing.assert_array_equal(new["kspace"][()], old["kspace"][()])
        assert new["reconstruction"].dtype == np.float32


def test_grey_images_stored_in_three_equal_channels_are_grey_to_a_grey_run(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([GREY] * 3)).save(tmp_path / "a.png")
    file, target, _ = copy(tmp_path / "a.png")
    assert file.facts[""].shape == GREY.shape
    np.testing.assert_array_equal(np.asarray(opened(target)), np.dstack([GREY] * 3))
    assert open_file(tmp_path / "a.png", 3).facts[""].shape == (40, 30, 3)


def test_what_cannot_be_written_again_is_refused_before_anything_is_restored(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).convert("CMYK").save(tmp_path / "cmyk.jpg")
    colours = RNG.integers(0, 65536, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "palette.tif", GREY, photometric="palette", colormap=colours)
    for name in ("cmyk.jpg", "palette.tif"):
        with pytest.raises(DataError, match=f"{name}: .* choose --format"):
            StoredFile(tmp_path / name, 3).check_writable()


def test_a_jpeg_under_the_name_of_a_png_stays_a_jpeg(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(SMOOTH).save(buffer, "JPEG", quality=90)
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    _, target, _ = copy(tmp_path / "a.png", 3)
    assert opened(target).format == "JPEG"
