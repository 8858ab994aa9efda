"""A tar against its index, to the last byte: names and places of its members, headers, padding and what follows."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from quell.configs.errors import DataError
from quell.shards.format import members, tar
from quell.shards.format.index import MISSING
from quell.shards.format.positioned_reads import read_at
from quell.shards.reading.shard_set import ShardSet
from quell.shards.verifying.samples import Defect

_REMEDY = "copy the shard again, or rebuild it"


def check(shards: ShardSet) -> list[Defect]:
    """The defects of a split's tars outside the bytes of the members, which the check of the samples reads."""
    defects = []
    for number, path in enumerate(shards.files.paths):
        try:
            problem = next(_problems(shards, number, path), None)
        except DataError as error:
            problem = str(error)
        except OSError as error:
            problem = f"{path}: cannot be read ({error.strerror})"
        if problem is not None:
            defects.append(Defect("error", "shard", str(path), problem))
    return defects


def unchecked(shards: ShardSet) -> str | None:
    """What cannot be checked of a split whose index is of an earlier version; None where everything can."""
    if all("crc" in shard for shard in shards.shards):
        return None
    return (
        f"{shards.path}: its index has no checksums of whole shards (written by an earlier version): the fields of tar "
        "headers that nothing reads cannot be compared; --repair adds the checksums"
    )


def _problems(shards: ShardSet, number: int, path: Path) -> Iterator[str]:
    entries = tar.scan(path)
    yield from _structure(shards, number, path, entries)
    with open(path, "rb") as file:
        yield from _padding(path, file.fileno(), entries)
        crc = shards.shards[number].get("crc")
        if crc is not None and tar.checksum(file.fileno()) != crc and _members_match(shards, number, file.fileno()):
            yield (
                f"{path}: differs from the index outside its members (in a tar header): names, times or owners were "
                f"changed; {_REMEDY}"
            )


def _structure(shards: ShardSet, number: int, path: Path, entries: list[tar.TarEntry]) -> Iterator[str]:
    """Differences between the members of a tar and the index's rows."""
    samples = np.flatnonzero(shards.column("shard") == number).tolist()
    expected: dict[tuple[str, str], tuple[int, int]] = {}
    for field in shards.members:
        column = shards.column(field)[samples]
        for key, row in zip(shards.keys(samples), column.tolist(), strict=True):
            stored = dict(zip(column.dtype.names or (), row, strict=True))
            if stored["kind"] != MISSING:
                expected[key, field] = stored["offset"], stored["size"]
    found = {key_field: place for entry in entries if (key_field := _key_and_field(entry))
             for place in [(entry.offset, entry.size)]}  # fmt: skip
    keys = {key for key, _ in expected}
    for (key, field), place in found.items():
        if expected.get((key, field), place) != place:
            yield f"{path}: sample {key}: field {field} is not where the index says; {_REMEDY}"
        if (key, field) not in expected and (key in keys or field != "json"):
            yield f"{path}: holds sample {key!r}, field {field!r}, which is not in the index; {_REMEDY}"
    for key, field in expected.keys() - found.keys():
        yield f"{path}: sample {key}: field {field} is in the index, but not in the shard; {_REMEDY}"


def _key_and_field(entry: tar.TarEntry) -> tuple[str, str] | None:
    """Key and field of a member that an index lists; None for other files."""
    named = members.split_name(entry.name)
    if named is None:
        return None
    key, field, codec = named
    is_listed = codec in members.IMAGES + members.ARRAYS or field == "json"
    return (key.encode(errors="backslashreplace").decode(), field) if is_listed else None


def _padding(path: Path, descriptor: int, entries: list[tar.TarEntry]) -> Iterator[str]:
    """Bytes that fill a member's last block and are not zero."""
    for entry in entries:
        end = entry.offset + entry.size
        if any(read_at(descriptor, -end % tar.BLOCK, end)):
            yield f"{path}: the padding after member {entry.name} is not empty; {_REMEDY}"


def _members_match(shards: ShardSet, number: int, descriptor: int) -> bool:
    """Whether the members are those that were indexed; where they are not, the check of the samples names them."""
    samples = np.flatnonzero(shards.column("shard") == number)
    for field in shards.members:
        stored = shards.column(field)[samples]
        for row in stored[stored["kind"] != MISSING]:
            if tar.checksum_of(descriptor, int(row["offset"]), int(row["size"])) != row["crc"]:
                return False
    return True
