"""A tar read from front to back through stock webdataset, checked against the index on the way."""

import tarfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

from configs.errors import DataError, QuellError
from shards.format import tar
from shards.format.members import ARRAYS, IMAGES
from shards.reading.prefetch import Prefetcher

PIECES_AHEAD = 2
"""Pieces of a shard that wait while the last one is taken apart."""

Members = dict[str, tuple[str, bytes]]
"""Field -> codec and bytes."""


def samples(
    pieces: Generator[bytes, None, None], shard: dict[str, Any], url: str
) -> Generator[tuple[str, Members], None, None]:
    """Key and members of the samples of one shard, in stored order, as the index counts them.

    Raises DataError, naming the shard, when it is not the one that was indexed.
    """
    from webdataset.tariterators import (  # a run that does not stream imports none of it
        group_by_keys,
        tar_file_expander,
    )

    advice = "upload the shard and its index again"
    count = 0
    with closing(Prefetcher(pieces, PIECES_AHEAD)) as ahead:
        body = _Body(iter(ahead), shard["size"])
        try:
            for sample in group_by_keys(tar_file_expander(iter([{"url": url, "stream": body}]))):
                members = _members(sample)
                if set(members) != {"json"} and members:
                    count += 1
                    yield sample["__key__"], members
            while body.read(1 << 20):
                pass
        except QuellError as error:
            error.args = error.args[:1]  # webdataset adds its own
            raise
        except (tarfile.TarError, EOFError, ValueError, OSError) as error:
            raise DataError(f"{url}: not a readable tar, damaged or cut off ({error.args[0]}); {advice}") from error
    if body.fingerprint() != tar.Fingerprint(shard["size"], shard["head"], shard["tail"]):
        raise DataError(f"{url}: what was read is not what the index lists; {advice}")
    if count != shard["samples"]:
        raise DataError(f"{url}: holds {count} samples, the index says {shard['samples']}; {advice}")


def _members(sample: dict[str, Any]) -> Members:
    """The members that the index knows too."""
    found = {}
    for suffix, data in sample.items():
        field, _, codec = suffix.rpartition(".")
        if not suffix.startswith("__") and (codec in IMAGES + ARRAYS or suffix == "json"):
            found[field or codec] = (codec, data)
    return found


class _Body:
    """What webdataset reads from: pieces joined to a file, with its fingerprint."""

    def __init__(self, pieces: Iterator[bytes], size: int) -> None:
        self._pieces, self._rest = pieces, memoryview(b"")
        self._at, self._size = 0, size
        self._head = self._tail = 0

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end."""
        parts = []
        while size:
            if not self._rest:
                piece = next(self._pieces, b"")
                if not piece:
                    break
                self._rest = memoryview(piece)
                self._note(self._rest)
            parts.append(self._rest[:size])
            self._rest = self._rest[size:]
            size -= len(parts[-1])
        return b"".join(parts)

    def fingerprint(self) -> tar.Fingerprint:
        """Of what has been read."""
        return tar.Fingerprint(self._at, self._head, self._tail)

    def _note(self, piece: memoryview) -> None:
        self._head = zlib.crc32(piece[: max(0, tar.FINGERPRINT_BYTES - self._at)], self._head)
        tail = max(0, self._size - tar.FINGERPRINT_BYTES)
        self._tail = zlib.crc32(piece[max(0, tail - self._at) :], self._tail)
        self._at += len(piece)
