"""Writing samples as a split: uncompressed tars through webdataset's ShardWriter, then their index.

The same samples give the same bytes.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from webdataset import ShardWriter

from quell.configs.errors import DataError, MachineError
from quell.shards.format import members
from quell.shards.format.build_index import build_index
from quell.shards.format.index import IndexHeader

SHARD_MB = 64.0
BUFFER_BYTES = 1 << 20
"""tarfile writes 10 KiB at a time; this buffer turns that into one write per MiB."""

EncodedSample = dict[str, str | bytes]
"""A sample as webdataset's writer takes it: `__key__`, and member name -> bytes."""


def write_split(
    path: str | Path,
    samples: Iterable[Mapping[str, object]],
    *,
    name: str,
    meta: Mapping[str, object],
    max_size_mb: float = SHARD_MB,
) -> IndexHeader:
    """Write samples as a split: `path`/`name`-000000.tar and so on, and their index.

    The folder appears once it is complete.

    Args:
        path: Folder of the split; must be empty or not exist.
        samples: In webdataset's form, `{"__key__": "case-07", "pd.npy": array, "json": {...}}`. Values are arrays
            (H, W) or (H, W, C) for .npy, dicts for json, and encoded bytes for .png and the like.
        name: Beginning of the shards' file names.
        meta: The notes on the split, stored in its index: data_range, source, licence, sigma, ...
        max_size_mb: A new shard begins where the next sample would exceed this size.

    Returns:
        The index header.

    Raises:
        DataError: A sample cannot be stored, a key is used twice, there are no samples, or the folder holds files.
        MachineError: The folder cannot be written.
    """
    final = Path(path)
    if final.exists() and any(final.iterdir()):
        raise DataError(f"{final}: already holds files; remove the folder or choose another one")
    partial = final.with_name(final.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        with open_shard_writer(partial, name, max_size_mb) as writer:
            for key, sample in _with_unique_keys(samples):
                values = {member: value for member, value in sample.items() if member != "__key__"}
                writer.write(encode_sample(key, values))
        header = build_index(partial, meta=dict(meta))
        publish(partial, final)
    except OSError as error:
        raise MachineError(f"{final}: cannot write shards ({error.strerror or error})") from error
    return header


def encode_sample(key: str, values: Mapping[str, object]) -> EncodedSample:
    """Encode a sample. Raises DataError for a value that cannot be stored under its member name."""
    return {"__key__": key, **{name: _encode_member(name, value) for name, value in values.items()}}


def open_shard_writer(
    folder: Path,
    name: str,
    max_size_mb: float,
    *,
    start_shard: int = 0,
    on_shard_done: Callable[[Path], None] | None = None,
) -> ShardWriter:
    """Open webdataset's writer of `folder`/`name`-000000.tar and so on.

    Args:
        folder: An existing folder.
        name: Beginning of the shards' file names.
        max_size_mb: A new shard begins where the next sample would exceed this size.
        start_shard: Number of the first shard to write.
        on_shard_done: Called with the path of each shard once it is closed.
    """
    current: list[BinaryIO] = []

    def open_shard(path: str) -> BinaryIO:
        current.append(open(path, "wb", buffering=BUFFER_BYTES))  # noqa: SIM115  closed by `close_shard`
        return current[-1]

    def close_shard(path: str) -> None:
        if not current:
            return  # closed already: what `on_shard_done` raised (a full disk) made webdataset finish it once more
        current.pop().close()  # webdataset closes only the files that it has opened itself
        if on_shard_done is not None:
            on_shard_done(Path(path))

    pattern = str(folder).replace("%", "%%") + f"/{name}-%06d.tar"
    return ShardWriter(
        pattern,
        maxsize=max_size_mb * 1e6,
        maxcount=10**9,
        start_shard=start_shard,
        verbose=0,
        opener=open_shard,
        post=close_shard,
        mtime=0,
        encoder=False,
    )


def publish(partial: Path, final: Path) -> None:
    """Move a complete folder to its final name, where there is nothing yet or an empty folder."""
    if final.exists():
        final.rmdir()
    os.replace(partial, final)


def _encode_member(name: str, value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, np.ndarray) and name.endswith(".npy"):
        return b"".join(members.npy_bytes(value))
    if isinstance(value, dict) and name.endswith("json"):
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    raise DataError(
        f"member '{name}': a {type(value).__name__} cannot be stored; expected an array for .npy, a dict for json, "
        "or bytes"
    )


def _with_unique_keys(samples: Iterable[Mapping[str, object]]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield each sample with its key. Raises DataError for a missing, invalid or repeated key, or no samples."""
    seen: set[str] = set()
    for sample in samples:
        key = sample.get("__key__")
        if not isinstance(key, str) or not key or "." in key or key.startswith("/"):
            raise DataError(f"sample key {key!r}: expected text without dots, which end a key")
        if key in seen:
            raise DataError(f"sample key {key!r} appears twice")
        seen.add(key)
        yield key, sample
    if not seen:
        raise DataError("no samples to write")
