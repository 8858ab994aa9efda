"""A TIFF of 20,000 x 20,000 pixels is restored in less than 2 GB.

`python -m pytest -m slow -s tests/launch/inference/test_large_tiff.py` prints the memory and the time.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.launch.inference.identity_runs import identity_run

SIDE_PX, TILE_PX = 20_000, 512
LIMIT_GB = 2.0


def noise_tiles() -> Iterator[np.ndarray]:
    """The tiles of the image."""
    tile = np.random.default_rng(0).integers(0, 256, (TILE_PX, TILE_PX), np.uint8)
    count = -(-SIDE_PX // TILE_PX)
    for number in range(count * count):
        yield np.roll(tile, number)


@pytest.mark.slow
def test_a_tiff_of_400_million_pixels_is_restored_in_bounded_memory(tmp_path: Path, root: Path) -> None:
    run = identity_run(tmp_path)
    path, out = tmp_path / "large.tif", tmp_path / "out"
    tifffile.imwrite(
        path, noise_tiles(), shape=(SIDE_PX, SIDE_PX), dtype="u1", tile=(TILE_PX, TILE_PX), compression="zlib"
    )
    start = time.monotonic()
    subprocess.run(
        [sys.executable, root / "launch" / "denoise.py", "--run", run, path, "--output", out], check=True, cwd=root
    )
    peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    print(f"{SIDE_PX} x {SIDE_PX} px: {peak_gb:.2f} GB at most, {time.monotonic() - start:.0f} s")
    assert peak_gb < LIMIT_GB
    old, new = (tifffile.TiffFile(file) for file in (path, out / "large.tif"))
    with old, new:
        across = -(-SIDE_PX // TILE_PX)  # the last tile of a row or column is padded
        for number in (row * across + 7 * row % (across - 1) for row in range(across - 1)):
            tiles = []
            for file in (old, new):
                page = file.pages.first
                file.filehandle.seek(page.dataoffsets[number])
                tiles.append(page.decode(file.filehandle.read(page.databytecounts[number]), number)[0])
            np.testing.assert_array_equal(tiles[1], tiles[0])
