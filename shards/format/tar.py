"""A tar on disk -> its members' places, and a fingerprint that tells whether it is still the same tar."""

import os
import tarfile
import zlib
from pathlib import Path
from typing import NamedTuple

from configs.errors import DataError

BLOCK = 512
FINGERPRINT_BYTES = 65536
_PACKED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}


class Place(NamedTuple):
    """Where a member's bytes lie."""

    name: str
    offset: int
    size: int


class Fingerprint(NamedTuple):
    """Size of a file and CRC-32 of its first and last 64 KiB."""

    size: int
    head: int
    tail: int


def fingerprint(descriptor: int) -> Fingerprint:
    """The fingerprint of an open file."""
    size = os.fstat(descriptor).st_size
    first = os.pread(descriptor, FINGERPRINT_BYTES, 0)
    last = os.pread(descriptor, FINGERPRINT_BYTES, max(0, size - FINGERPRINT_BYTES))
    return Fingerprint(size, zlib.crc32(first), zlib.crc32(last))


def scan(path: Path) -> list[Place]:
    """The regular members of a plain tar in stored order.

    Raises DataError, naming the tar, when it is missing, compressed, cut off or damaged.
    """
    try:
        with open(path, "rb") as file:
            _refuse_packed(path, file.read(8))
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                places = [_place(path, member) for member in tar if not member.isdir()]
                end = tar.offset
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError as error:
        raise DataError(f"{path}: this shard is missing") from error
    except DataError:
        raise
    except (tarfile.TarError, EOFError, ValueError, OverflowError, LookupError, OSError) as error:
        raise DataError(f"{path}: not a readable tar, damaged or cut off ({error}); copy or build it again") from error
    _refuse_cut(path, places, end, size)
    return places


def _place(path: Path, member: tarfile.TarInfo) -> Place:
    if not member.isreg() or member.issparse():
        raise DataError(f"{path}: member {member.name} is a link, sparse or special file; store it as a plain file")
    return Place(member.name, member.offset_data, member.size)


def _refuse_packed(path: Path, first: bytes) -> None:
    for magic, name in _PACKED.items():
        if first.startswith(magic):
            raise DataError(f"{path}: compressed with {name}; shards are read in place: unpack it to a plain .tar")


def _refuse_cut(path: Path, places: list[Place], end: int, size: int) -> None:
    """A tar ends with blocks of zeros; without them something is missing, even where the last member is whole."""
    last = max((place.offset + place.size for place in places), default=0)
    if last > size:
        raise DataError(f"{path}: cut off inside member {places[-1].name} ({size} bytes); copy or build it again")
    with open(path, "rb") as file:
        file.seek(-(-last // BLOCK) * BLOCK)
        closing = file.read()
    if len(closing) < BLOCK or any(closing):
        raise DataError(
            f"{path}: cut off or damaged after member {places[-1].name if places else '(none)'} "
            f"({size} bytes, readable up to {min(end, size)}); copy or build it again"
        )
