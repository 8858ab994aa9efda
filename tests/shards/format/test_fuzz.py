"""Randomly damaged files: a clear error or the right pixels, never a crash, a hang or silently wrong pixels."""

import io
import json
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from quell.configs.errors import QuellError
from quell.shards.format import index
from quell.shards.reading.shard_set import ShardSet
from tests.support.mutations import mutate_bytes

MUTATIONS = 420
"""Per parameter set; the six sets make 2,520."""


def intact_members() -> dict[str, bytes]:
    """Members of every encoding, small enough for every part of them to be hit."""
    random = np.random.default_rng(0)
    members = {}
    for number in range(3):
        for name, array in {"real": random.random((9, 8)).astype("f4"), "complex": random.random((7, 6)) * 1j}.items():
            file = io.BytesIO()
            np.save(file, array)
            members[f"k{number}.{name}.npy"] = file.getvalue()
        photo = random.integers(0, 255, (8, 8, 3), np.uint8)
        for kind in ("png", "jpeg"):
            file = io.BytesIO()
            Image.fromarray(photo).save(file, kind)
            members[f"k{number}.{kind}.{kind}"] = file.getvalue()
        file = io.BytesIO()
        tifffile.imwrite(file, photo[:, :, 0])
        members[f"k{number}.tif.tif"] = file.getvalue()
        members[f"k{number}.json"] = json.dumps({"number": number}).encode()
    return members


def tar_of(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def read_everything(folder: Path) -> dict[str, bytes]:
    """All images by key and field, and all notes. Raises QuellError."""
    shards = ShardSet.open(folder)
    contents = {}
    for sample in range(len(shards)):
        for field, info in shards.fields.items():
            if info.count == len(shards):
                image = shards.read(sample, field)
                contents[f"{shards.key(sample)}.{field}"] = repr((image.shape, image.dtype)).encode() + image.tobytes()
        contents[f"{shards.key(sample)}.json"] = json.dumps(shards.json(sample)).encode()
    contents["meta"] = json.dumps(shards.meta).encode()
    shards.files.close()
    return contents


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("target", ["a.tar", index.HEADER, index.TABLE])
def test_damaged_indexed_data_is_read_correctly_or_refused(tmp_path: Path, target: str, seed: int) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of(intact_members()))
    expected = read_everything(tmp_path)
    intact = (tmp_path / target).read_bytes()
    random = np.random.default_rng(seed)
    refused = 0
    for _ in range(MUTATIONS):
        (tmp_path / target).write_bytes(mutate_bytes(intact, random))
        try:
            contents = read_everything(tmp_path)
        except QuellError as error:
            refused += 1
            assert "\n" not in str(error) and str(tmp_path) in str(error), error
        else:
            assert contents == expected
    assert refused > MUTATIONS // 2


@pytest.mark.parametrize("seed", range(2))
def test_damaged_tars_without_an_index_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    """Without checksums damaged pixels may go unnoticed, but reading must end, and errors are one sentence."""
    intact = tar_of(intact_members())
    random = np.random.default_rng(100 + seed)
    refused = 0
    for _ in range(MUTATIONS):
        for name in (index.HEADER, index.TABLE):
            (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / "a.tar").write_bytes(mutate_bytes(intact, random))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # decoders warn about what they then refuse
                read_everything(tmp_path)
        except QuellError as error:
            refused += 1
            assert "\n" not in str(error) and str(tmp_path) in str(error), error
    assert refused > MUTATIONS // 3
