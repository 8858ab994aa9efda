"""Samples -> a split: plain tars through webdataset's ShardWriter, then the index. Same samples, same bytes."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from webdataset import ShardWriter

from configs.errors import DataError, MachineError
from shards.format import members
from shards.format.build_index import build_index
from shards.format.index import IndexHeader

SHARD_MB = 64.0
BUFFER_BYTES = 1 << 20
"""tarfile writes 10 KiB at a time; the file system is asked once per MiB instead."""


def write_split(
    path: str | Path,
    samples: Iterable[dict[str, Any]],
    *,
    name: str,
    meta: dict[str, Any],
    max_size_mb: float = SHARD_MB,
) -> IndexHeader:
    """Write samples as `path`/`name`-000000.tar and so on with their index; returns the index header.

    A sample is `{"__key__": "case-07", "pd.npy": array, "json": {...}}`; values are arrays, dicts, or encoded bytes
    (for .png and the like). `meta` describes the split: data_range, source, licence, sigma. The folder appears when it
    is complete. Raises DataError for an unusable sample or an existing folder, MachineError when the folder
    cannot be written.
    """
    final = Path(path)
    if final.exists() and any(final.iterdir()):
        raise DataError(f"{final}: already holds files; remove the folder or give another output")
    work = final.with_name(final.name + ".partial")
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        with open_writer(work, name, max_size_mb) as sink:
            for sample in _checked(samples):
                sink.write({part: encode(part, value) for part, value in sample.items()})
        header = build_index(work, meta=meta)
        if final.exists():
            final.rmdir()
        os.replace(work, final)
    except OSError as error:
        raise MachineError(f"{final}: cannot write shards ({error.strerror or error})") from error
    return header


def encode(part: str, value: Any) -> Any:
    """The bytes of one part of a sample; `__key__` stays text."""
    if part == "__key__" or isinstance(value, bytes):
        return value
    if isinstance(value, np.ndarray) and part.endswith(".npy"):
        return b"".join(members.npy_bytes(value))
    if isinstance(value, dict) and part.endswith("json"):
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    raise DataError(f"part '{part}': {type(value).__name__} cannot be stored; give an array for .npy, a dict for json")


def open_writer(
    folder: Path, name: str, max_size_mb: float, *, start_shard: int = 0, done: Callable[[Path], None] | None = None
) -> ShardWriter:
    """Webdataset's writer of `folder`/`name`-000000.tar and so on; `done` is told each finished shard."""
    current: list[BinaryIO] = []

    def create(path: str) -> BinaryIO:
        current.append(open(path, "wb", buffering=BUFFER_BYTES))  # noqa: SIM115  closed by `finish`
        return current[-1]

    def finish(path: str) -> None:
        current.pop().close()  # the writer closes only files it opened itself
        if done is not None:
            done(Path(path))

    pattern = str(folder).replace("%", "%%") + f"/{name}-%06d.tar"
    return ShardWriter(
        pattern,
        maxsize=max_size_mb * 1e6,
        maxcount=10**9,
        start_shard=start_shard,
        verbose=0,
        opener=create,
        post=finish,
        mtime=0,
        encoder=False,
    )


def _checked(samples: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The same samples, each with a usable key seen once."""
    seen: set[str] = set()
    for sample in samples:
        key = sample.get("__key__")
        if not isinstance(key, str) or not key or "." in key or key.startswith("/"):
            raise DataError(f"sample key {key!r}: expected text without dots, which end a key")
        if key in seen:
            raise DataError(f"sample key {key!r} appears twice")
        seen.add(key)
        yield sample
    if not seen:
        raise DataError("no samples to write")
