"""Write tars member by member, and check that reading a folder of them fails with one clear error."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs.errors import DataError
from shards.reading.shard_set import ShardSet


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
