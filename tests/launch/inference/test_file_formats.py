"""Image files: what is written is read back unchanged, and errors name the file and the reason."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from configs.errors import DataError, MachineError
from launch.inference import file_formats

RNG = np.random.default_rng(3)
UINT8 = RNG.integers(0, 256, (9, 11), np.uint8)
UINT16 = RNG.integers(0, 65536, (9, 11), np.uint16)
FLOAT = RNG.normal(size=(9, 11)).astype(np.float32)
COMPLEX = (FLOAT + 1j * FLOAT[::-1]).astype(np.complex64)


@pytest.mark.parametrize(
    ("file", "array", "colour"),
    [
        ("a.npy", COMPLEX, False),
        ("a.npy", np.stack([FLOAT] * 3), False),
        ("a.tif", FLOAT, False),
        ("a.tif", COMPLEX, False),
        ("a.tiff", UINT16, False),
        ("a.tif", np.stack([UINT8] * 3), False),
        ("a.tif", np.stack([UINT8] * 3, -1), True),
        ("a.tif", np.stack([np.stack([UINT8] * 3, -1)] * 2), True),
        ("a.png", UINT8, False),
        ("a.png", UINT16, False),
        ("a.png", np.stack([UINT8] * 3, -1), True),
    ],
)
def test_written_arrays_are_read_back_unchanged(tmp_path: Path, file: str, array: np.ndarray, colour: bool) -> None:
    (path,) = file_formats.write(tmp_path / "new" / file, {"": array}, colour=colour)
    back = file_formats.read(path)[""]
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
    assert [p.name for p in path.parent.iterdir()] == [file]


@pytest.mark.parametrize("file", ["a.npz", "a.h5", "a.hdf5"])
def test_named_arrays_keep_their_names(tmp_path: Path, file: str) -> None:
    file_formats.write(tmp_path / file, {"pd": COMPLEX, "pdfs": FLOAT})
    back = file_formats.read(tmp_path / file)
    assert back.keys() == {"pd", "pdfs"}
    np.testing.assert_array_equal(back["pd"], COMPLEX)


def test_datasets_inside_groups_are_read_and_scalars_ignored(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["case/0001"] = FLOAT
        file["te_ms"] = 27.0
    assert list(file_formats.read(tmp_path / "a.h5")) == ["case/0001"]


def test_floats_become_a_png_scaled_to_white(tmp_path: Path) -> None:
    file_formats.write(tmp_path / "a.png", {"": np.array([[0, 1, 2], [-1, 4, 8]], np.float32)}, white=4.0)
    assert file_formats.read(tmp_path / "a.png")[""].tolist() == [[0, 16384, 32768], [0, 65535, 65535]]
    stack = file_formats.write(tmp_path / "b.png", {"": np.stack([COMPLEX] * 2)})
    assert [path.name for path in stack] == ["b-0000.png", "b-0001.png"]


def test_a_palette_is_converted_to_rgb(tmp_path: Path) -> None:
    Image.fromarray(np.stack([UINT8] * 3, -1)).convert("P").save(tmp_path / "a.png")
    assert file_formats.read(tmp_path / "a.png")[""].shape == (9, 11, 3)


def test_a_planar_tif_is_read_with_channels_last(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([UINT8] * 3), photometric="rgb", planarconfig="separate")
    assert file_formats.read(tmp_path / "a.tif")[""].shape == (9, 11, 3)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.png", b"no picture", "cannot be read as .png"),
        ("a.tif", b"II*\0 broken", "cannot be read as .tif"),
        ("a.npy", b"\x93NUMPY", "cannot be read as .npy"),
        ("a.npz", b"PK", "cannot be read as .npz"),
        ("a.h5", b"", "cannot be read as .h5"),
        ("a.jpg", b"", "cannot read '.jpg' files"),
    ],
)
def test_errors_name_damaged_and_unsupported_files(tmp_path: Path, file: str, content: bytes, message: str) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=f"{file}: {message}"):
        file_formats.read(tmp_path / file)


def test_errors_name_missing_files_and_unusable_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        file_formats.read(tmp_path / "a.npy")
    for name, array, message in (
        ("nan", np.full((3, 3), np.nan), "9 NaN"),
        ("line", np.zeros(4), r"shape \(4,\)"),
        ("text", np.array([["a"]]), "expected numbers"),
    ):
        np.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(DataError, match=message):
            file_formats.read(tmp_path / f"{name}.npy")
    np.save(tmp_path / "pickle.npy", np.array([[None]]), allow_pickle=True)
    with pytest.raises(DataError, match="pickle"):
        file_formats.read(tmp_path / "pickle.npy")


def test_sixteen_bit_colour_pngs_are_refused(tmp_path: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(7))) + chunk(b"IEND", b"")
    )
    with pytest.raises(DataError, match="16-bit colour"):
        file_formats.read(tmp_path / "a.png")


def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot write"):
        file_formats.write(tmp_path / "file" / "a.npy", {"": FLOAT})
