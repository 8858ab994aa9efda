"""Damaged bytes of every kind: a clear error or the right pixels, never a crash, a hang or silently wrong pixels."""

import io
import json
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from configs.errors import QuellError
from shards.format import index
from shards.reading.shard_set import ShardSet

EACH = 420
"""Mutations per parameter; six parameters make 2,520."""


def original() -> dict[str, bytes]:
    """Members of every kind, small enough to be damaged everywhere."""
    random = np.random.default_rng(0)
    members = {}
    for number in range(3):
        for name, array in {"real": random.random((9, 8)).astype("f4"), "rough": random.random((7, 6)) * 1j}.items():
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


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    """One of seven kinds of damage at a random place."""
    raw, at = bytearray(data), int(random.integers(len(data)))
    size = int(random.integers(1, 600))
    kind = random.integers(7)
    if kind == 0:
        raw[at] ^= 1 << int(random.integers(8))
    elif kind == 1:
        raw[at : at + size] = random.bytes(len(raw[at : at + size]))
    elif kind == 2:
        del raw[at:]
    elif kind == 3:
        del raw[at : at + size]
    elif kind == 4:
        raw[at:at] = random.bytes(size)
    elif kind == 5:
        raw[at : at + size] = bytes(len(raw[at : at + size]))
    else:
        raw[at:at] = raw[at : at + 512]
    return bytes(raw)


def everything(folder: Path) -> dict[str, bytes]:
    """All that can be read, by key and field; notes too. Raises QuellError."""
    shards = ShardSet.open(folder)
    found = {}
    for sample in range(len(shards)):
        for field, info in shards.fields.items():
            if info.count == len(shards):
                image = shards.read(sample, field)
                found[f"{shards.key(sample)}.{field}"] = repr((image.shape, image.dtype)).encode() + image.tobytes()
        found[f"{shards.key(sample)}.json"] = json.dumps(shards.json(sample)).encode()
    found["meta"] = json.dumps(shards.meta).encode()
    shards.files.close()
    return found


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("target", ["a.tar", index.HEADER, index.TABLE])
def test_indexed_data_is_right_or_refused(tmp_path: Path, target: str, seed: int) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of(original()))
    truth = everything(tmp_path)
    whole = (tmp_path / target).read_bytes()
    random = np.random.default_rng(seed)
    refused = 0
    for _ in range(EACH):
        (tmp_path / target).write_bytes(damaged(whole, random))
        try:
            found = everything(tmp_path)
        except QuellError as error:
            refused += 1
            assert "\n" not in str(error) and str(tmp_path) in str(error), error
        else:
            assert found == truth
    assert refused > EACH // 2


@pytest.mark.parametrize("seed", range(2))
def test_tars_without_an_index_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    """Nothing tells whether pixels of a foreign tar are right, but reading must end, and in one sentence."""
    whole = tar_of(original())
    random = np.random.default_rng(100 + seed)
    refused = 0
    for _ in range(EACH):
        for name in (index.HEADER, index.TABLE):
            (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / "a.tar").write_bytes(damaged(whole, random))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # decoders warn about what they then refuse
                everything(tmp_path)
        except QuellError as error:
            refused += 1
            assert "\n" not in str(error) and str(tmp_path) in str(error), error
    assert refused > EACH // 3
