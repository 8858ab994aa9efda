"""Write tars member by member and as small splits, damage a bit, and check that reading them fails with one error."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quell.configs.errors import DataError
from quell.shards.building.writer import write_split
from quell.shards.reading.shard_set import ShardSet


def write_tar(path: Path, members: dict[str, bytes] | list[tuple[str, bytes]]) -> Path:
    """Write the members in order; a list may contain a name twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def npy(array: np.ndarray) -> bytes:
    """The content of a .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def encoded(array: np.ndarray, kind: str) -> bytes:
    """The content of an image file of a kind that Pillow writes ("png", "jpeg", ...)."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def assert_refused(folder: Path, *parts: str) -> None:
    """Check that reading every image of the folder raises a DataError whose single line contains all `parts`."""
    with pytest.raises(DataError) as raised:
        shards = ShardSet.open(folder)
        for i in range(len(shards)):
            for field in shards.fields:
                shards.read(i, field)
    for part in parts:
        assert part in str(raised.value), str(raised.value)
    assert "\n" not in str(raised.value)


def images(seed: int, count: int = 8, **more: Any) -> list[dict[str, Any]]:
    """Smooth, distinct pairs with a group each."""
    random = np.random.default_rng(seed)
    samples = []
    for number in range(count):
        clean = np.kron(random.random((6, 6)), np.ones((8, 8))).astype(np.float32)
        noisy = clean + 0.1 * random.standard_normal(clean.shape).astype(np.float32)
        samples.append(
            {
                "__key__": f"{seed}-{number}",
                "noisy.npy": noisy,
                "clean.npy": clean,
                "json": {"group": f"{seed}-{number}", **more},
            }
        )
    return samples


def make_split(root: Path, change: Callable[[list[dict[str, Any]]], Any] | None = None, split: str = "train") -> None:
    samples = images(len(split))
    if change:
        change(samples)
    write_split(root / split, samples, name="v", meta={"data_range": 1.0, "sigma": 0.1}, max_size_mb=0.06)


def flip(path: Path, at: int, bit: int = 1) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= bit
    path.write_bytes(raw)
