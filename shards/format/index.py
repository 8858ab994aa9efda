"""The index beside a folder of tars: where every member lies, what it holds, and its checksum.

`index.json` (the header) describes the split: shards with fingerprints, fields, statistics, the builder's notes.
`index.npy` (the table) has one row per sample and is memory-mapped: opening a split takes the same time and memory for
a hundred samples as for ten million, and the processes of a node share the mapped pages.

This module reads and writes the two files; `build_index` makes them from the tars.
"""

import hashlib
import json
import os
import zlib
from pathlib import Path
from typing import TypedDict

import numpy as np

from quell.configs.errors import DataError
from quell.configs.support.atomic_files import naming, temporary_beside, write_atomically
from quell.configs.support.json_files import parse_json
from quell.shards.format import tar
from quell.shards.format.checksums import crc32
from quell.shards.format.positioned_reads import read_at

FORMAT = "quell shard index"
VERSION = 1
HEADER, TABLE = "index.json", "index.npy"

MEMBER = np.dtype(
    [
        ("offset", "<u8"),
        ("size", "<u8"),
        ("crc", "<u4"),
        ("start", "<u2"),
        ("kind", "u1"),
        ("ndim", "u1"),
        ("d0", "<u4"),
        ("d1", "<u4"),
        ("d2", "<u4"),
    ]
)
"""One member: its bytes in the tar, their CRC-32, bytes before the pixels, number of its encoding in the header's
`kinds`, and shape (d0, d1, d2)."""
MISSING = 255
"""The `kind` of a field that a sample does not have."""

FULL_CHECK_BYTES = 8_000_000
"""Local tables up to this size are compared with their checksum whenever they are opened; of larger ones only the
fingerprint is, so that opening stays fast. A table that was downloaded is always compared in full."""
_REBUILD = "delete index.json and index.npy to have them rebuilt"


class _WholeChecksum(TypedDict, total=False):
    crc: int
    """CRC-32 of the whole shard; indexes that were written before there was one lack it."""


class ShardEntry(_WholeChecksum):
    """What the header records of a shard; `size`, `head` and `tail` are its fingerprint (`tar.Fingerprint`)."""

    name: str
    size: int
    head: int
    tail: int
    samples: int


class EncodingEntry(TypedDict):
    """What the header records of a member encoding (`members.Encoding`)."""

    codec: str
    dtype: str
    fortran: bool


class FieldEntry(TypedDict):
    """What the header records of a field."""

    dtype: str
    channels: int
    shape: list[int] | None
    """None where images differ in shape."""
    smallest: list[int]
    """Smallest height and width, pixels."""
    count: int
    """Samples that have the field."""
    odd: str | None
    """The first sample whose dtype or channels differ from the others', described."""


class FieldStatistics(TypedDict):
    """Statistics of a field in stored units (of the magnitude where complex); None where not finite."""

    images: int
    """Images the statistics were computed from."""
    min: float | None
    max: float | None
    mean: float | None
    std: float | None
    median: float | None


class TableEntry(TypedDict):
    """What the header records of the table: its fingerprint, and the CRC-32 of the whole file where it was computed."""

    size: int
    head: int
    tail: int
    whole: int | None


Meta = dict[str, object]
"""The builder's notes on a split: data_range, sigma, source, licence, ..."""


class _Checksums(TypedDict, total=False):
    table: TableEntry
    checksum: int
    """CRC-32 of the rest of the header."""


class IndexHeader(_Checksums):
    """The content of index.json; the checksums are added when it is written."""

    format: str
    version: int
    samples: int
    shards: list[ShardEntry]
    kinds: list[EncodingEntry]
    fields: dict[str, FieldEntry]
    meta: Meta
    statistics: dict[str, FieldStatistics]


def fingerprint_of(entry: ShardEntry) -> tar.Fingerprint:
    """The fingerprint that was recorded of a shard."""
    return tar.Fingerprint(entry["size"], entry["head"], entry["tail"])


def plain_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(H, W) or (H, W, C): a leading or trailing axis of length 1 is dropped."""
    if len(shape) == 3 and shape[2] == 1:
        return shape[:2]
    return shape[1:] if len(shape) == 3 and shape[0] == 1 and shape[2] > 16 else shape


def tars(folder: Path) -> list[Path]:
    """The shards of a split in name order. Raises DataError where there is no folder, or no uncompressed tar in it."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of shards")
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        compressed = sorted(file.name for file in folder.glob("*.tar.*"))
        splits = sorted(child.name for child in folder.iterdir() if child.is_dir() and any(child.glob("*.tar")))
        hint = ""
        if compressed:
            hint = f"; {compressed[0]} is compressed: decompress it"
        elif splits:
            hint = f"; it contains the splits {', '.join(splits)}: give one of them"
        raise DataError(f"{folder}: no .tar shards here{hint}")
    for shard in shards:
        if shard.exists() and not shard.is_file():  # a pipe would never answer
            raise DataError(f"{shard}: not a regular file but a folder, pipe or device; remove it")
    return shards


def locations(folder: Path) -> list[Path]:
    """Folders where the index of `folder` may be: beside the tars, else in the user's cache if they have a home."""
    cache = os.environ.get("QUELL_CACHE") or os.path.expanduser("~/.cache/quell")
    if cache.startswith("~"):
        return [folder]
    return [folder, Path(cache) / "index" / hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:24]]


def write_files(folder: Path, header: IndexHeader, table: np.ndarray) -> None:
    """Write table and header, each atomically; the header last, so that whoever sees it finds its table."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(folder / TABLE)
    with naming(temporary), open(temporary, "wb+") as file:
        np.lib.format.write_array(file, table, allow_pickle=False)
        file.flush()
        header = {**header, "table": table_entry(file.fileno(), full=True)}
    os.replace(temporary, folder / TABLE)
    write_header(folder, header)


def write_header(folder: Path, header: IndexHeader) -> None:
    """Write index.json atomically, with its own checksum."""
    header = {**header, "checksum": header_checksum(header)}
    write_atomically(folder / HEADER, json.dumps(header, indent=1, ensure_ascii=False) + "\n")


def header_checksum(header: IndexHeader) -> int:
    """CRC-32 of everything in the header but the checksum itself."""
    rest = {key: value for key, value in header.items() if key != "checksum"}
    return zlib.crc32(json.dumps(rest, sort_keys=True).encode())


def table_entry(descriptor: int, *, full: bool = False) -> TableEntry:
    """Compute what the header records of an open table; the CRC-32 of all of it where it is small, or with `full`."""
    fingerprint = tar.fingerprint(descriptor)
    crc = None
    if full or fingerprint.size <= FULL_CHECK_BYTES:
        crc = 0
        for start in range(0, fingerprint.size, FULL_CHECK_BYTES):
            crc = crc32(read_at(descriptor, FULL_CHECK_BYTES, start), crc)
    return {"size": fingerprint.size, "head": fingerprint.head, "tail": fingerprint.tail, "whole": crc}


def load(folder: Path, *, thorough: bool = False) -> tuple[IndexHeader, np.ndarray]:
    """Read the index in `folder` after checking that its two files are intact and belong together.

    Args:
        folder: Where the two files are.
        thorough: Compare every byte of a large table too, instead of its beginning and its end.

    Returns:
        The header and the memory-mapped table.

    Raises:
        DataError: A file is missing or damaged; the message names it and the remedy.
    """
    try:
        header = parse_header(folder / HEADER, (folder / HEADER).read_bytes(), remedy=_REBUILD)
        check_table(folder / TABLE, folder / TABLE, header["table"], remedy=_REBUILD, full=thorough)
    except FileNotFoundError as error:
        raise DataError(f"{error.filename}: this half of the index is missing; {_REBUILD}") from error
    try:
        table = np.load(folder / TABLE, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{folder / TABLE}: the index is damaged ({error}); {_REBUILD}") from error
    if len(table) != header["samples"]:
        raise DataError(
            f"{folder / HEADER}: the index is damaged: {header['samples']} samples, but {TABLE} has {len(table)} rows; "
            f"{_REBUILD}"
        )
    return header, table


def parse_header(origin: object, text: bytes, *, remedy: str, needs_checksum: bool = False) -> IndexHeader:
    """Parse index.json and check it against its checksum.

    Args:
        origin: Path or URL for messages.
        text: Content of the file.
        remedy: What the user can do about a damaged index, for messages.
        needs_checksum: Whether to refuse an index without a checksum, as early versions wrote it.

    Raises:
        DataError: It is no index, of another version, or damaged.
    """
    try:
        header: IndexHeader = parse_json(text)
        expected, actual = f"{FORMAT} version {VERSION}", f"{header['format']} version {header['version']}"
        problem = f"expected {expected}, got {actual}" if actual != expected else _damage(header, needs_checksum)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{origin}: not an index of shards ({error!r}); {remedy}") from error
    if problem is not None:
        raise DataError(f"{origin}: {problem}; {remedy}")
    return header


def check_table(origin: object, path: Path, expected: TableEntry, *, remedy: str, full: bool = False) -> None:
    """Raise DataError unless the file at `path` is the table that its header describes.

    `full` compares every byte of a large table too; `origin` names the table in the message.
    """
    with open(path, "rb") as file:
        actual = table_entry(file.fileno(), full=full)
    if None in (actual["whole"], expected["whole"]):
        actual["whole"] = expected["whole"]
    if actual != expected:
        raise DataError(f"{origin}: does not belong to {HEADER} beside it; {remedy}")


def check_tars(folder: Path, shards: list[Path], header: IndexHeader) -> None:
    """Raise DataError unless `shards` are those of the index, by name and size.

    Their content is compared later, when each shard is opened.
    """
    sizes = {shard["name"]: shard["size"] for shard in header["shards"]}
    remedy = f"if the shards are right, run python -m shards.verify {folder} --repair"
    for shard in shards:
        if shard.name not in sizes:
            raise DataError(f"{shard}: not in the index of {len(sizes)} shards, which is stale; {remedy}")
        expected, actual = sizes.pop(shard.name), shard.stat().st_size
        if actual != expected:
            raise DataError(
                f"{shard}: truncated or replaced: {expected} bytes when it was indexed, {actual} bytes now; {remedy}"
            )
    if sizes:
        raise DataError(f"{folder / min(sizes)}: this shard is missing; the index lists it")


def _damage(header: IndexHeader, needs_checksum: bool) -> str | None:
    """What is wrong with the content of a header, or None. KeyError or TypeError where it has another structure."""
    computed = header_checksum(header)
    if computed != (header["checksum"] if needs_checksum else header.get("checksum", computed)):
        return "the index is damaged (its checksum does not match)"
    parts = (header["kinds"], header["fields"], header["meta"], header["statistics"])
    sizes = [header["samples"], header["table"]["size"], *(shard["size"] for shard in header["shards"])]
    is_complete = (
        header["table"].keys() == TableEntry.__annotations__.keys()
        and all(isinstance(part, dict | list) for part in parts)
        and all(type(size) is int and size >= 0 for size in sizes)
        and all(_is_plain_name(shard["name"]) for shard in header["shards"])
        and all(type(shard.get("crc", 0)) is int for shard in header["shards"])
    )
    return None if is_complete else "the index is damaged"


def _is_plain_name(name: object) -> bool:
    """Whether a shard's name stays inside the folder that it is copied to."""
    return isinstance(name, str) and name.endswith(".tar") and Path(name).name == name
