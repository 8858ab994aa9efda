"""Damaged image files of every format: a named refusal or an image, never another exception, a hang or wrong pixels."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from quell.configs.errors import DataError
from quell.configs.support.paths import ROOT
from quell.shards.image_files.read import read_one
from tests.shards.image_files.image_fuzz import fuzz, intact_files, silence


def test_damaged_files_are_refused_by_name_or_read(tmp_path: Path) -> None:
    silence()
    assert list(fuzz(tmp_path, count=6 * len(intact_files()), seed=3)) == []


@pytest.mark.slow
def test_thousands_of_damaged_files_within_bounded_memory(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.shards.image_files.image_fuzz", "--count", "5000", "--seed", "2"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert ended.returncode == 0 and ": 0 failures" in ended.stdout, ended.stdout + ended.stderr


@pytest.mark.parametrize("name", [name for name in intact_files() if name.endswith((".png", ".nii.gz"))])
def test_every_flipped_byte_of_a_checksummed_file_is_noticed_or_harmless(tmp_path: Path, name: str) -> None:
    data = intact_files()[name]
    path = tmp_path / name
    path.write_bytes(data)
    expected = read_one(path).pixels
    for place in range(0, len(data), 3):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        try:
            pixels = read_one(path).pixels
        except DataError as error:
            assert path.name in str(error)
        else:
            assert (pixels == expected).all(), place


def test_a_png_with_a_wrong_checksum_or_without_its_end_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (20, 20), 7).save(path)
    data = path.read_bytes()
    start = data.index(b"IDAT")
    path.write_bytes(data[: start + 8] + bytes([data[start + 8] ^ 1]) + data[start + 9 :])
    with pytest.raises(DataError, match=r"a.png: damaged: the checksum does not match in its chunk IDAT"):
        read_one(path)
    path.write_bytes(data[: start + 12])
    with pytest.raises(DataError, match=r"a.png: damaged: the file ends inside its chunk IDAT"):
        read_one(path)


def test_a_chain_of_pages_that_comes_back_or_leads_nowhere_is_damaged(tmp_path: Path) -> None:
    """A reader that followed the first would never end."""
    data = intact_files()["pages.tif"]
    first = int.from_bytes(data[4:8], "little")
    place = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    for target, told in ((first, "leads back to an earlier page"), (10**6, "leads out of the file")):
        path = tmp_path / "a.tif"
        path.write_bytes(data[:place] + target.to_bytes(4, "little") + data[place + 4 :])
        with pytest.raises(DataError, match=f"a.tif: damaged: the chain of pages {told} after 1 pages"):
            read_one(path)
