"""Plain tars on disk: where their members are, and a fingerprint that tells whether a tar is still the same."""

import os
import tarfile
import zlib
from pathlib import Path
from typing import NamedTuple

from configs.errors import DataError

BLOCK = 512
"""A tar consists of blocks of so many bytes; it ends with at least one block of zeros."""
FINGERPRINT_BYTES = 65536
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
    first = os.pread(descriptor, FINGERPRINT_BYTES, 0)
    last = os.pread(descriptor, FINGERPRINT_BYTES, max(0, size - FINGERPRINT_BYTES))
    return Fingerprint(size, zlib.crc32(first), zlib.crc32(last))


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
