"""Plain tars on disk: where their members are, and a fingerprint that tells whether a tar is still the same."""

import os
import tarfile
from pathlib import Path
from typing import NamedTuple

from quell.configs.errors import DataError
from quell.shards.format.checksums import crc32
from quell.shards.format.positioned_reads import fill_at, read_at

BLOCK = 512
"""A tar consists of blocks of so many bytes; it ends with at least one block of zeros."""
FINGERPRINT_BYTES = 65536
_CHUNK_BYTES = 1 << 20
_COMPRESSIONS = {
    b"\x1f\x8b": "gzip",
    b"BZ": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
"""First bytes of compressed files."""


class TarEntry(NamedTuple):
    """A member's name, and where its bytes are in the tar."""

    name: str
    offset: int
    size: int


class Fingerprint(NamedTuple):
    """Size of a file and CRC-32 of its first and last 64 KiB.

    It is compared whenever a shard is opened, so it must not cost more than a read or two. It detects truncated,
    replaced and rebuilt shards; a flipped bit in between is detected by the CRC-32 of the member it hits.
    """

    size: int
    head: int
    tail: int


def fingerprint(descriptor: int) -> Fingerprint:
    """The fingerprint of an open file."""
    size = os.fstat(descriptor).st_size
    first = read_at(descriptor, FINGERPRINT_BYTES, 0)
    last = read_at(descriptor, FINGERPRINT_BYTES, max(0, size - FINGERPRINT_BYTES))
    return Fingerprint(size, crc32(first), crc32(last))


class RunningChecksum:
    """The CRC-32 of an open file that is read once from front to back, by parts that are wanted and those between."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._position, self._crc = descriptor, 0, 0

    def read(self, offset: int, data: memoryview) -> bool:
        """Fill `data` from `offset` on, which is not before what was read last; False where the file is shorter."""
        self._pass(offset)
        done = 0
        while done < len(data):
            count = fill_at(self._descriptor, [data[done:]], offset + done)
            if not count:
                return False
            done += count
        self._crc = crc32(data, self._crc)
        self._position = offset + len(data)
        return True

    def finish(self) -> int:
        """Read to the end; the CRC-32 of all bytes."""
        self._pass(None)
        return self._crc

    def _pass(self, offset: int | None) -> None:
        """Read up to `offset`, or to the end."""
        while offset is None or self._position < offset:
            size = _CHUNK_BYTES if offset is None else min(_CHUNK_BYTES, offset - self._position)
            data = read_at(self._descriptor, size, self._position)
            if not data:
                return
            self._crc = crc32(data, self._crc)
            self._position += len(data)


def checksum(descriptor: int) -> int:
    """The CRC-32 of an open file."""
    return RunningChecksum(descriptor).finish()


def checksum_of(descriptor: int, offset: int, size: int) -> int:
    """The CRC-32 of `size` bytes of an open file from `offset` on, or of as many as there are."""
    crc = 0
    for start in range(offset, offset + size, _CHUNK_BYTES):
        crc = crc32(read_at(descriptor, min(_CHUNK_BYTES, offset + size - start), start), crc)
    return crc


def scan(path: Path) -> list[TarEntry]:
    """The regular members of a plain tar in stored order.

    Raises:
        DataError: The tar is missing, compressed, truncated or damaged, or has members that are links or sparse files.
    """
    try:
        with open(path, "rb") as file:
            _refuse_compressed(path, file.read(8))
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                entries = [_entry(path, member) for member in tar if not member.isdir()]
                end = tar.offset
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError as error:
        raise DataError(f"{path}: this shard is missing") from error
    except (tarfile.TarError, EOFError, ValueError, OverflowError, LookupError, OSError) as error:
        raise DataError(
            f"{path}: not a readable tar, damaged or truncated ({error}); copy it again or rebuild it"
        ) from error
    _refuse_truncated(path, entries, end, size)
    return entries


def _entry(path: Path, member: tarfile.TarInfo) -> TarEntry:
    if not member.isreg() or member.issparse():
        raise DataError(f"{path}: member {member.name} is a link, sparse or special file; store it as a plain file")
    return TarEntry(member.name, member.offset_data, member.size)


def _refuse_compressed(path: Path, first: bytes) -> None:
    for magic, name in _COMPRESSIONS.items():
        if first.startswith(magic):
            raise DataError(f"{path}: compressed with {name}, but shards are read in place: unpack it to a plain .tar")


def _refuse_truncated(path: Path, entries: list[TarEntry], end: int, size: int) -> None:
    """Raise DataError unless zeros follow the last member: tarfile does not notice a tar that ends without them.

    The last member that is left may be complete even though others that followed it are lost.
    """
    members_end = max((entry.offset + entry.size for entry in entries), default=0)
    if members_end > size:
        raise DataError(
            f"{path}: truncated inside member {entries[-1].name} ({size} bytes); copy it again or rebuild it"
        )
    with open(path, "rb") as file:
        file.seek(-(-members_end // BLOCK) * BLOCK)
        closing = file.read()
    if len(closing) < BLOCK or any(closing):
        raise DataError(
            f"{path}: truncated or damaged after member {entries[-1].name if entries else '(none)'} "
            f"({size} bytes, readable up to {min(end, size)}); copy it again or rebuild it"
        )
