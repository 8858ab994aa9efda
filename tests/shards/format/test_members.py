"""Members of tars: every supported array and image, and a one-sentence error for everything that cannot be used."""

import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from quell.configs.errors import DataError
from quell.shards.format import members as codecs
from quell.shards.reading.shard_set import ShardSet
from tests.support.tars import assert_refused, encoded, npy, write_tar

VALID = npy(np.ones((4, 4), "f4"))
PICKLED = io.BytesIO()
np.save(PICKLED, np.array([{}, 1], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=">f4").reshape(3, 4),
        np.arange(12.0).reshape(3, 4),
        np.asfortranarray(np.ones((3, 4), "f4")),
        np.arange(12, dtype="<u2").reshape(3, 4),
        np.ones((3, 4, 2), "c8"),
        np.ones((1, 30, 40), "f4"),
        np.ones((3, 4, 1), "u1"),
        np.ones((3, 4), bool),
        np.ones((3, 4), "f2"),
        np.ones((3, 4), "i2"),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_supported_arrays(tmp_path: Path, array: np.ndarray) -> None:
    write_tar(tmp_path / "a.tar", {"k.x.npy": npy(array)})
    image = ShardSet.open(tmp_path).read(0, "x")
    assert image.dtype == array.dtype.newbyteorder("=") and np.array_equal(image, np.squeeze(array))


def test_supported_images(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    grey = random.integers(0, 255, (9, 7), np.uint8)
    rgb = random.integers(0, 255, (9, 7, 3), np.uint8)
    deep = random.integers(0, 65535, (9, 7), np.uint16)
    tif = io.BytesIO()
    tifffile.imwrite(tif, deep)
    palette = io.BytesIO()
    Image.fromarray(rgb).quantize(4).save(palette, "png")
    write_tar(
        tmp_path / "a.tar",
        {
            "k.grey.png": encoded(grey, "png"),
            "k.rgb.PNG": encoded(rgb, "png"),
            "k.deep.png": encoded(deep, "png"),
            "k.t.tiff": tif.getvalue(),
            "k.j.jpeg": encoded(rgb, "jpeg"),
            "k.pal.png": palette.getvalue(),
        },
    )
    shards = ShardSet.open(tmp_path)
    assert np.array_equal(shards.read(0, "grey"), grey) and np.array_equal(shards.read(0, "rgb"), rgb)
    assert np.array_equal(shards.read(0, "deep"), deep) and np.array_equal(shards.read(0, "t"), deep)
    assert shards.read(0, "j").shape == (9, 7, 3) and shards.read(0, "pal").shape == (9, 7, 3)
    assert {name: info.dtype for name, info in shards.fields.items()} == {
        "grey": "uint8",
        "rgb": "uint8",
        "deep": "uint16",
        "t": "uint16",
        "j": "uint8",
        "pal": "uint8",
    }


def test_png_decoders_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind of PNG is decoded to Pillow's pixels, with imagecodecs (where it is installed) and without."""
    random = np.random.default_rng(0)
    rgb = random.integers(0, 255, (9, 7, 3), np.uint8)
    kinds = {
        "rgb": Image.fromarray(rgb),
        "grey": Image.fromarray(rgb[..., 0]),
        "palette": Image.fromarray(rgb).quantize(4),
        "clear": Image.fromarray(np.dstack([rgb, rgb[..., :1]])),
        "bits": Image.fromarray(rgb[..., 0] > 99),
    }
    members = {}
    for name, image in kinds.items():
        file = io.BytesIO()
        image.save(file, "png", **({"transparency": (1, 2, 3)} if name == "rgb" else {}))
        members[f"k.{name}.png"] = file.getvalue()
    write_tar(tmp_path / "a.tar", members)
    shards = ShardSet.open(tmp_path)
    decoded = {name: shards.read(0, name) for name in kinds}
    monkeypatch.setattr(codecs, "_decoder", lambda name: None)
    for name, pixels in decoded.items():
        assert np.array_equal(pixels, shards.read(0, name)), name
    assert (
        np.array_equal(decoded["rgb"], rgb) and decoded["palette"].shape == (9, 7, 3) and decoded["bits"].max() == 255
    )


def test_jpeg_decoders_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind of JPEG is decoded to Pillow's pixels; a truncated one is refused instead of filled with grey."""
    smooth = Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 5, 3), np.uint8)).resize((41, 37))
    kinds: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "half": (smooth, {"subsampling": 2}),
        "full": (smooth, {"subsampling": 0}),
        "steps": (smooth, {"progressive": True}),
        "grey": (smooth.convert("L"), {}),
        "print": (smooth.convert("CMYK"), {}),
    }
    members = {}
    for name, (image, options) in kinds.items():
        file = io.BytesIO()
        image.save(file, "jpeg", quality=90, **options)
        members[f"k.{name}.jpg"] = file.getvalue()
    write_tar(tmp_path / "a.tar", members)
    intact, encoding = members["k.half.jpg"], codecs.Encoding("jpg", "|u1")
    with pytest.raises(DataError, match="cannot be decoded"):
        codecs.decode(encoding, 0, (37, 41, 3), intact[: len(intact) // 2])
    shards = ShardSet.open(tmp_path)
    decoded = {name: shards.read(0, name) for name in kinds}
    monkeypatch.setattr(codecs, "_decoder", lambda name: None)
    for name, pixels in decoded.items():
        assert np.array_equal(pixels, shards.read(0, name)), name


def test_tars_of_other_programs_with_folders_and_unknown_members(tmp_path: Path) -> None:
    image = np.ones((4, 4), np.uint8)
    write_tar(
        tmp_path / "b.tar",
        {
            "README": b"x",
            "data/v1.0/k1.png": encoded(image, "png"),
            "data/v1.0/k1.txt": b"t",
            "data/v1.0/k2.png": encoded(image, "png"),
            "__meta__.json": b"{}",
        },
    )
    shards = ShardSet.open(tmp_path)
    assert [shards.key(i) for i in range(len(shards))] == ["data/v1.0/k1", "data/v1.0/k2"]
    assert shards.meta["data_range"] == 1.0  # 8-bit images are read into [0, 1]


@pytest.mark.parametrize(
    "members,message",
    [
        ([("k.x.pkl", b"x")], "pickled members"),
        ([("k.x.npz", b"x")], "compressed members"),
        ([("k.x.npy", PICKLED.getvalue())], "pickled objects"),
        ([("k.x.npy", b"junk")], "not a .npy array"),
        ([("k.x.npy", VALID[:-3])], "does not fill"),
        ([("k.x.npy", VALID[:40])], "header is truncated"),
        ([("k.x.npy", npy(np.ones(3, "f4")))], "shape (3,) is not an image"),
        ([("k.x.npy", npy(np.ones((3, 64, 64), "f4")))], "shape (3, 64, 64) is not an image"),
        ([("k.x.npy", npy(np.array([["a"]])))], "dtype '<U1'"),
        ([("k.x.png", b"junk")], "not an image"),
        ([("k.x.tif", b"junk")], "not a TIFF"),
        ([("k.x.npy", VALID), ("k.x.npy", VALID)], "field x twice"),
        ([("k.x.npy", VALID), ("k.x.png", encoded(np.ones((4, 4), "u1"), "png"))], "field x twice"),
        ([("k.x.npy", VALID), ("j.x.npy", VALID), ("k.y.npy", VALID)], "not adjacent"),
        ([("readme.txt", b"")], "no arrays"),
        ([("k.x.npy", npy(np.full((4, 4), np.nan, "f4")))], "NaN or Inf"),
        ([("k.x.npy", npy(np.full((4, 4), 1j * np.inf, "c8")))], "NaN or Inf"),
    ],
)
def test_unusable_members_are_refused(tmp_path: Path, members: list[tuple[str, bytes]], message: str) -> None:
    write_tar(tmp_path / "bad.tar", members)
    assert_refused(tmp_path, "bad.tar" if "no arrays" not in message else str(tmp_path), message)


def test_16_bit_colour_png_is_refused(tmp_path: Path) -> None:
    data = bytearray(encoded(np.ones((4, 4, 3), "u1"), "png"))
    data[24] = 16
    write_tar(tmp_path / "bad.tar", {"k.x.png": bytes(data)})
    assert_refused(tmp_path, "bad.tar", "16-bit colour PNG")


def test_links_and_compressed_tars_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        info = tarfile.TarInfo("k.x.npy")
        info.type, info.linkname = tarfile.SYMTYPE, "elsewhere.npy"
        tar.addfile(info)
    assert_refused(tmp_path, "link.tar", "is a link")
    (tmp_path / "link.tar").write_bytes(gzip.compress(b"whatever"))
    assert_refused(tmp_path, "link.tar", "compressed with gzip")
