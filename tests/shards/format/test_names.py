"""Names of members that an index cannot hold, and notes that cannot be read, are refused in one sentence."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from quell.configs.errors import DataError
from quell.shards.format.build_index import build_index
from quell.shards.reading.shard_set import ShardSet
from tests.support.tars import npy, write_tar

IMAGE = npy(np.ones((4, 4), "f4"))


@pytest.mark.parametrize("field", ["key", "shard", "KEY"])
def test_a_field_named_like_a_column_of_the_index_is_refused(tmp_path: Path, field: str) -> None:
    write_tar(tmp_path / "a.tar", {f"x.{field}.npy": IMAGE})
    with pytest.raises(
        DataError, match=rf"a.tar: member 'x.{field}.npy' is refused: '{field.lower()}' is what the index"
    ):
        build_index(tmp_path)


def test_an_array_named_like_the_notes_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"x.a.npy": IMAGE, "x.json.npy": IMAGE})
    with pytest.raises(DataError, match="'json' is what the index itself calls a column"):
        build_index(tmp_path)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_names_are_utf8(tmp_path: Path, encoding: str) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, encoding=encoding) as tar:
        info = tarfile.TarInfo("aé.b.npy")
        info.size = len(IMAGE)
        tar.addfile(info, io.BytesIO(IMAGE))
    if encoding == "utf-8":
        build_index(tmp_path)
        assert ShardSet.open(tmp_path).key(0) == "aé"
        return
    with pytest.raises(DataError, match="is refused: its name is not UTF-8 text") as caught:
        build_index(tmp_path)
    assert str(caught.value).isprintable()


def test_control_characters_and_endless_keys_are_refused(tmp_path: Path) -> None:
    for name, says in (("a\nb.c.npy", "control character"), ("k" * 5000 + ".c.npy", "its key has 5000 bytes")):
        write_tar(tmp_path / "a.tar", {name: IMAGE})
        with pytest.raises(DataError, match=says) as caught:
            build_index(tmp_path)
        assert "\n" not in str(caught.value)


def test_deeply_nested_notes_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "s" / "a.tar", {"x.a.npy": IMAGE, "x.json": b"[" * 100_000})
    with pytest.raises(DataError, match="sample x: field json is not valid JSON"):
        ShardSet.open(tmp_path / "s").json(0)
    (tmp_path / "s" / "index.json").write_bytes(b'{"a": ' * 100_000)
    with pytest.raises(DataError, match="index.json: not an index of shards"):
        ShardSet.open(tmp_path / "s")
    for name in ("index.json", "index.npy"):
        (tmp_path / "s" / name).unlink()
    (tmp_path / "s" / "meta.json").write_bytes(b"[" * 100_000)
    with pytest.raises(DataError, match="meta.json: not valid JSON"):
        ShardSet.open(tmp_path / "s")
