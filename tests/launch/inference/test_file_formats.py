"""Results in another format than their input's: what is written is read back unchanged."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quell.configs.errors import MachineError
from quell.launch.inference import file_formats
from quell.shards.image_files.read import read_file

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
        ("a.tif", UINT16, False),
        ("a.tif", np.stack([UINT8] * 3), False),
        ("a.tif", np.stack([UINT8] * 3, -1), True),
        ("a.tif", np.stack([np.stack([UINT8] * 3, -1)] * 2), True),
        ("a.png", UINT8, False),
        ("a.png", UINT16, False),
        ("a.png", np.stack([UINT8] * 3, -1), True),
    ],
)
def test_written_arrays_are_read_back_unchanged(tmp_path: Path, file: str, array: np.ndarray, colour: bool) -> None:
    (path,) = file_formats.write(tmp_path / "new" / file, array, colour=colour)
    (image,) = read_file(path)
    assert image.plain.dtype == array.dtype
    np.testing.assert_array_equal(image.plain, array)
    assert [p.name for p in path.parent.iterdir()] == [file]


def test_floats_become_a_png_scaled_to_white(tmp_path: Path) -> None:
    array = np.array([[0, 1, 2], [-1, 4, 8]], np.float32)
    file_formats.write(tmp_path / "a.png", array, white=4.0)
    assert read_file(tmp_path / "a.png")[0].plain.tolist() == [[0, 16384, 32768], [0, 65535, 65535]]
    stack = file_formats.write(tmp_path / "b.png", np.stack([COMPLEX] * 2))
    assert [path.name for path in stack] == ["b-0000.png", "b-0001.png"]
    with Image.open(stack[0]) as file:
        assert file.mode == "I;16"


def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot write"):
        file_formats.write(tmp_path / "file" / "a.npy", FLOAT)


def test_what_a_png_loses_is_said() -> None:
    grey = np.zeros((8, 9), np.uint16)
    assert file_formats.png_losses(grey, colour=False) == []
    assert file_formats.png_losses(grey.astype(np.uint8), colour=False) == []
    assert "8-bit colour" in file_formats.png_losses(np.zeros((8, 9, 3), np.uint16), colour=True)[0]
    assert "float32 became 16 bits" in file_formats.png_losses(grey.astype(np.float32), colour=False)[0]
    assert "magnitudes only" in file_formats.png_losses(grey.astype(np.complex64), colour=False)[0]
