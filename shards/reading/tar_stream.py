"""A tar read from front to back through webdataset's own functions, checked against the index on the way."""

import tarfile
import zlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing

from configs.errors import DataError, QuellError
from shards.format import tar
from shards.format.index import ShardEntry, fingerprint_of
from shards.format.members import ARRAYS, IMAGES
from shards.reading.prefetch import Prefetcher

CHUNKS_AHEAD = 2
"""Chunks of a shard that are fetched while the last one is parsed."""
REMEDY = "upload the shard and its index again"

Members = dict[str, tuple[str, bytes]]
"""Field -> codec and bytes."""


def samples(
    chunks: Generator[bytes, None, None], shard: ShardEntry, name: str
) -> Generator[tuple[str, Members], None, None]:
    """The samples of one shard in stored order, as the index counts them.

    Args:
        chunks: The bytes of the shard.
        shard: What the index records of it.
        name: What messages call it.

    Yields:
        Key and members of each sample.

    Raises:
        DataError: The shard is not the one that was indexed. Its fingerprint is known at its end only, after its
            samples were yielded.
    """
    from webdataset.tariterators import (  # indexed mode does not need it, and it is slow to import
        group_by_keys,
        tar_file_expander,
    )

    count = 0
    with closing(Prefetcher(chunks, CHUNKS_AHEAD)) as prefetched:
        body = _Body(iter(prefetched), shard["size"])
        try:
            for sample in group_by_keys(tar_file_expander(iter([{"url": name, "stream": body}]))):
                members = _members(sample)
                if set(members) != {"json"} and members:
                    count += 1
                    yield sample["__key__"], members
            while body.read(1 << 20):
                pass
        except QuellError as error:
            error.args = error.args[:1]  # webdataset appends the name of the shard
            raise
        except (tarfile.TarError, EOFError, ValueError, OSError) as error:
            raise DataError(f"{name}: not a readable tar, damaged or truncated ({error.args[0]}); {REMEDY}") from error
    if body.fingerprint() != fingerprint_of(shard):
        raise DataError(f"{name}: what was read is not what the index lists; {REMEDY}")
    if count != shard["samples"]:
        raise DataError(f"{name}: holds {count} samples, but the index says {shard['samples']}; {REMEDY}")


def _members(sample: Mapping[str, bytes]) -> Members:
    """The members that the index knows too."""
    members = {}
    for suffix, data in sample.items():
        field, _, codec = suffix.rpartition(".")
        if not suffix.startswith("__") and (codec in IMAGES + ARRAYS or suffix == "json"):
            members[field or codec] = (codec, data)
    return members


class _Body:
    """The file object that webdataset reads from: chunks joined, and their fingerprint computed as they pass."""

    def __init__(self, chunks: Iterator[bytes], size: int) -> None:
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
        self._head = zlib.crc32(chunk[: max(0, tar.FINGERPRINT_BYTES - self._position)], self._head)
        tail = max(0, self._size - tar.FINGERPRINT_BYTES)
        self._tail = zlib.crc32(chunk[max(0, tail - self._position) :], self._tail)
        self._position += len(chunk)
