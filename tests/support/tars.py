"""Tars written member by member, and a check that a folder of them is refused."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs.errors import DataError
from shards.reading.shard_set import ShardSet


def write_tar(path: Path, members: dict[str, bytes] | list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def encoded(array: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def assert_refused(folder: Path, *parts: str) -> None:
    """Check that opening and reading everything raises one DataError of one line that contains all of `parts`."""
    with pytest.raises(DataError) as caught:
        shards = ShardSet.open(folder)
        for i in range(len(shards)):
            for field in shards.fields:
                shards.read(i, field)
    for part in parts:
        assert part in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)
