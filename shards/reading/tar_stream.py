"""A tar read from front to back through webdataset's own functions, checked against the index on the way."""

import tarfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing

import numpy as np

from quell.configs.errors import DataError, QuellError
from quell.shards.format import tar
from quell.shards.format.checksums import crc32
from quell.shards.format.index import MISSING, ShardEntry, fingerprint_of
from quell.shards.format.members import ARRAYS, IMAGES
from quell.shards.reading.prefetch import Prefetcher

CHUNKS_AHEAD = 2
"""Chunks of a shard that are fetched while the last one is parsed."""
REMEDY = "upload the shard and its index again"

Members = dict[str, tuple[str, bytes]]
"""Field -> codec and bytes."""


def samples(
    chunks: Generator[bytes, None, None], shard: ShardEntry, name: str, rows: np.ndarray | None = None, *, verify: bool
) -> Generator[tuple[str, Members], None, None]:
    """The samples of one shard in stored order, as the index counts them.

    Args:
        chunks: The bytes of the shard.
        shard: What the index records of it.
        name: What messages call it.
        rows: The index's rows of its samples; with them each sample is compared before it is yielded.
        verify: Whether checksums are compared: of each sample where there are `rows`, and of the whole shard, where
            the index has one, at its end.

    Yields:
        Key and members of each sample.

    Raises:
        DataError: The shard is not the one that was indexed. Its fingerprint and its checksum are known at its end
            only, after its samples were yielded.
    """
    from webdataset.tariterators import (  # indexed mode does not need it, and it is slow to import
        group_by_keys,
        tar_file_expander,
    )

    count = 0
    with closing(Prefetcher[bytes](chunks, CHUNKS_AHEAD)) as prefetched:
        body = _Body(iter(prefetched), shard["size"], with_checksum=verify and "crc" in shard)
        try:
            for sample in group_by_keys(tar_file_expander(iter([{"url": name, "stream": body}]))):
                members = _members(sample)
                if set(members) != {"json"} and members:
                    if verify and rows is not None:
                        _compare(sample["__key__"], members, rows, count, name)
                    count += 1
                    yield sample["__key__"], members
            while body.read(1 << 20):
                pass
        except QuellError as error:
            error.args = (_message(error, body),)
            raise
        except (tarfile.TarError, EOFError, ValueError, OSError) as error:
            raise DataError(
                f"{name}: not a readable tar, damaged or truncated ({_message(error, body)}); {REMEDY}"
            ) from error
    if body.fingerprint() != fingerprint_of(shard) or body.crc not in (None, shard.get("crc")):
        raise DataError(f"{name}: what was read is not what the index lists; {REMEDY}")
    if count != shard["samples"]:
        raise DataError(f"{name}: holds {count} samples, but the index says {shard['samples']}; {REMEDY}")


def _message(error: Exception, body: "_Body") -> str:
    """What an error said before webdataset appended the stream and the shard to it."""
    return str(error.args[0] if error.args else error).split(f" @ {body}")[0]


def _compare(key: str, members: Members, rows: np.ndarray, number: int, name: str) -> None:
    """Raise DataError unless a sample is, byte for byte, the one that the index has in this place."""
    if number >= len(rows):
        raise DataError(f"{name}: holds {number + 1} samples, but the index says {len(rows)}; {REMEDY}")
    row = rows[number]
    expected = bytes(row["key"])
    if key.encode(errors="surrogateescape") != expected:
        raise DataError(
            f"{name}: holds sample {key!r} where the index has {expected.decode(errors='replace')}; {REMEDY}"
        )
    indexed = {field for field in (rows.dtype.names or ())[2:] if row[field]["kind"] != MISSING}
    if indexed != members.keys():
        missing, more = sorted(indexed - members.keys()), sorted(members.keys() - indexed)
        problem = f"field {missing[0]} is missing" if missing else f"field {more[0]} is not in the index"
        raise DataError(f"{name}: sample {key}: {problem}; {REMEDY}")
    for field, (_, data) in members.items():
        if (len(data), crc32(data)) != (row[field]["size"], row[field]["crc"]):
            raise DataError(
                f"{name}: sample {key}: field {field} is damaged: its checksum differs from the index; {REMEDY}"
            )


def _members(sample: Mapping[str, bytes]) -> Members:
    """The members that the index knows too."""
    members = {}
    for suffix, data in sample.items():
        field, _, codec = suffix.rpartition(".")
        if not suffix.startswith("__") and (codec in IMAGES + ARRAYS or suffix == "json"):
            members[field or codec] = (codec, data)
    return members


class _Body:
    """The file object that webdataset reads from: chunks joined, and their checksums computed as they pass."""

    def __init__(self, chunks: Iterator[bytes], size: int, *, with_checksum: bool) -> None:
        self.crc: int | None = 0 if with_checksum else None
        """CRC-32 of what has been read."""
        self._chunks, self._rest = chunks, memoryview(b"")
        self._position, self._size = 0, size
        self._head = self._tail = 0

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer at the end only."""
        parts = []
        while size:
            if not self._rest:
                chunk = next(self._chunks, b"")
                if not chunk:
                    break
                self._rest = memoryview(chunk)
                self._update_fingerprint(self._rest)
            parts.append(self._rest[:size])
            self._rest = self._rest[size:]
            size -= len(parts[-1])
        return b"".join(parts)

    def fingerprint(self) -> tar.Fingerprint:
        """The fingerprint of what has been read."""
        return tar.Fingerprint(self._position, self._head, self._tail)

    def _update_fingerprint(self, chunk: memoryview) -> None:
        self._head = crc32(chunk[: max(0, tar.FINGERPRINT_BYTES - self._position)], self._head)
        tail = max(0, self._size - tar.FINGERPRINT_BYTES)
        self._tail = crc32(chunk[max(0, tail - self._position) :], self._tail)
        if self.crc is not None:
            self.crc = crc32(chunk, self.crc)
        self._position += len(chunk)
