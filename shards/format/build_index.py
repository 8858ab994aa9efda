"""Tars -> their index: every member is read once for its header and CRC-32, a few images for the statistics."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from quell.configs.errors import DataError, MachineError
from quell.configs.support.json_files import parse_json
from quell.configs.support.worker_threads import map_ordered
from quell.shards.format import index, members, tar
from quell.shards.format.checksums import crc32
from quell.shards.format.index import MISSING, FieldEntry, FieldStatistics, IndexHeader, Meta, ShardEntry
from quell.shards.format.members import Encoding, MemberHeader
from quell.shards.format.positioned_reads import read_at

INDEX_THREADS = min(4, os.cpu_count() or 1)
STATISTICS_SAMPLES = 32
"""Samples, spread evenly over the split, that the statistics are computed from."""
MEDIAN_PX = 16384
"""The median is that of at most so many pixels spread over an image; the other statistics use every pixel."""


@dataclass
class IndexedMember:
    """What the index records of one member."""

    entry: tar.TarEntry
    crc: int
    header: MemberHeader


@dataclass
class IndexedSample:
    """One sample of shard number `shard`: adjacent members with the same key."""

    key: str
    shard: int
    members: dict[str, IndexedMember]
    """By field."""


def build_index(folder: Path, *, meta: Meta | None = None) -> IndexHeader:
    """Read every shard of a folder once and write its index.

    The result depends on the tars alone and each file appears atomically: ranks that build the same index at the same
    moment write the same files.

    Args:
        folder: A split, whose tars need not have been written by this project.
        meta: The builder's notes (data_range, source, licence, sigma, ...); by default those in `meta.json` beside the
            tars, if there is one.

    Returns:
        The header that was written.

    Raises:
        DataError: A shard or a member cannot be used; the message names it.
        MachineError: The index cannot be written, neither beside the tars nor in the user's cache.
    """
    shards = index.tars(folder)
    per_shard = map_ordered(lambda number: read_shard(number, shards[number]), range(len(shards)), INDEX_THREADS)
    read = list(per_shard)
    samples = [sample for shard in read for sample in shard.samples]
    if not samples:
        raise DataError(f"{folder}: no arrays or images in the shards (members such as key.pd.npy or key.png)")
    table, encodings = _table(samples)
    fields = {name: _describe_field(name, samples) for name in (table.dtype.names or ())[2:] if name != "json"}
    header: IndexHeader = {
        "format": index.FORMAT,
        "version": index.VERSION,
        "samples": len(samples),
        "shards": _shard_entries(shards, table, [shard.crc for shard in read]),
        "kinds": [{"codec": kind.codec, "dtype": kind.dtype, "fortran": kind.fortran} for kind in encodings],
        "fields": fields,
        "meta": meta if meta is not None else _foreign_meta(folder, fields),
        "statistics": _statistics(shards, samples),
    }
    _write(folder, header, table)
    return header


class ReadShard(NamedTuple):
    """One tar, read from its first byte to its last."""

    samples: list[IndexedSample]
    crc: int
    """CRC-32 of the whole file."""


def read_shard(number: int, path: Path) -> ReadShard:
    """Read the samples of one tar, and every byte between and behind them.

    Raises:
        DataError: The tar or one of its members cannot be used.
    """
    samples: list[IndexedSample] = []
    keys: set[str] = set()
    buffer = bytearray(1 << 16)
    with open(path, "rb") as file:
        whole = tar.RunningChecksum(file.fileno())
        for entry in tar.scan(path):
            named = members.split_name(entry.name)
            if named is None:
                continue
            key, field, codec = named
            if reason := members.REFUSED.get(codec):
                raise DataError(f"{path}: member {entry.name} is refused: {reason}")
            if codec not in members.IMAGES + members.ARRAYS and field != "json":
                continue
            if reason := members.name_problem(key, field, codec):
                raise DataError(f"{path}: member {entry.name!r} is refused: {reason}")
            if not samples or samples[-1].key != key:
                if key in keys:
                    raise DataError(f"{path}: the members of sample {key} are not adjacent (or two have that key)")
                keys.add(key)
                samples.append(IndexedSample(key, number, {}))
            if field in samples[-1].members:
                raise DataError(f"{path}: sample {key} has field {field} twice (the second is {entry.name})")
            if len(buffer) < entry.size:
                buffer = bytearray(entry.size)  # shared by all members: fresh pages cost as much as reading
            data = memoryview(buffer)[: entry.size]
            samples[-1].members[field] = _read_member(path, whole, entry, codec, data)
        crc = whole.finish()
    return ReadShard([sample for sample in samples if set(sample.members) != {"json"}], crc)


def _read_member(
    path: Path, whole: tar.RunningChecksum, entry: tar.TarEntry, codec: str, data: memoryview
) -> IndexedMember:
    try:
        if not whole.read(entry.offset, data):
            raise DataError("the shard is truncated inside it")
        if codec == "json":
            header = MemberHeader(Encoding("json", ""), 0, ())
        else:
            header = members.read_header(codec, data, entry.size)
    except DataError as error:
        raise DataError(f"{path}: member {entry.name}: {error}") from error
    return IndexedMember(entry, crc32(data), header)


def _shard_entries(shards: list[Path], table: np.ndarray, checksums: list[int]) -> list[ShardEntry]:
    counts = np.bincount(table["shard"], minlength=len(shards)).tolist()
    entries: list[ShardEntry] = []
    for shard, count, crc in zip(shards, counts, checksums, strict=True):
        with open(shard, "rb") as file:
            size, head, tail = tar.fingerprint(file.fileno())
        entries.append({"name": shard.name, "size": size, "head": head, "tail": tail, "samples": count, "crc": crc})
    return entries


def _table(samples: list[IndexedSample]) -> tuple[np.ndarray, list[Encoding]]:
    """The structured table, and the list that its `kind` numbers point into."""
    names = sorted({name for sample in samples for name in sample.members})
    encodings = sorted({member.header.encoding for sample in samples for member in sample.members.values()})
    if len(encodings) >= MISSING:
        raise DataError(f"{len(encodings)} kinds of members are more than an index can hold ({MISSING - 1})")
    numbers = {encoding: number for number, encoding in enumerate(encodings)}
    keys = [sample.key.encode() for sample in samples]
    columns = [("key", f"S{max(map(len, keys))}"), ("shard", "<u4"), *((name, index.MEMBER) for name in names)]
    table = np.zeros(len(samples), dtype=columns)
    table["key"] = keys
    table["shard"] = [sample.shard for sample in samples]
    blank = (0, 0, 0, 0, MISSING, 0, 0, 0, 0)
    for name in names:
        table[name] = [_row(sample.members[name], numbers) if name in sample.members else blank for sample in samples]
    return table, encodings


def _row(member: IndexedMember, numbers: dict[Encoding, int]) -> tuple[int, ...]:
    """One member as index.MEMBER has it."""
    entry, header = member.entry, member.header
    sides = (*header.shape, 0, 0, 0)[:3]
    return (entry.offset, entry.size, member.crc, header.start, numbers[header.encoding], len(header.shape), *sides)


def _describe_field(name: str, samples: list[IndexedSample]) -> FieldEntry:
    """What a field holds over the whole split."""
    count, shapes, expected, mismatch = 0, set(), None, None
    for sample in samples:
        if (member := sample.members.get(name)) is None:
            continue
        count += 1
        shape = index.plain_shape(member.header.shape)
        shapes.add(shape)
        actual = (np.dtype(member.header.encoding.dtype).name, shape[2] if len(shape) == 3 else 1)
        expected = expected or actual
        if actual != expected and mismatch is None:
            mismatch = (
                f"{sample.key} has {actual[1]} channel(s) of {actual[0]} instead of {expected[1]} of {expected[0]}"
            )
    assert expected is not None
    smallest = [min(shape[axis] for shape in shapes) for axis in (0, 1)]
    return {
        "dtype": expected[0],
        "channels": expected[1],
        "shape": list(shapes.pop()) if len(shapes) == 1 else None,
        "smallest": smallest,
        "count": count,
        "odd": mismatch,
    }


def _foreign_meta(folder: Path, fields: dict[str, FieldEntry]) -> Meta:
    """The notes in meta.json beside the tars, else what is certain: integer images are read into [0, 1]."""
    notes = folder / "meta.json"
    if notes.is_file():
        try:
            meta = parse_json(notes.read_bytes())
        except ValueError as error:
            raise DataError(f"{notes}: not valid JSON ({error})") from error
        except OSError as error:
            raise DataError(f"{notes}: cannot be read ({error.strerror})") from error
        if not isinstance(meta, dict):
            raise DataError(f'{notes}: expected a JSON object such as {{"data_range": 1.0}}')
        return meta
    are_integers = all(field["dtype"] in ("uint8", "uint16") for field in fields.values())
    return {"source": "foreign tars", **({"data_range": 1.0} if are_integers else {})}


class _Moments(NamedTuple):
    """Statistics of the magnitude of one image."""

    low: float
    high: float
    mean: float
    square: float
    """Mean of the squares."""
    median: float


def _statistics(shards: list[Path], samples: list[IndexedSample]) -> dict[str, FieldStatistics]:
    """Statistics of each field over samples spread evenly."""
    chosen = [samples[i] for i in np.unique(np.linspace(0, len(samples) - 1, STATISTICS_SAMPLES).astype(int))]
    moments: dict[str, list[_Moments]] = {}
    for sample in chosen:
        for name, image in _images(shards[sample.shard], sample):
            moments.setdefault(name, []).append(_moments(image))
    return {name: _summary(of_field) for name, of_field in sorted(moments.items())}


def _moments(image: np.ndarray) -> _Moments:
    with np.errstate(all="ignore"):
        magnitude = np.abs(image).ravel()
        mean = magnitude.mean(dtype=np.float64)
        return _Moments(
            low=float(magnitude.min()),
            high=float(magnitude.max()),
            mean=float(mean),
            square=float(magnitude.std(dtype=np.float64) ** 2 + mean**2),
            median=float(np.median(magnitude[:: -(-magnitude.size // MEDIAN_PX)])),
        )


def _images(shard: Path, sample: IndexedSample) -> Iterator[tuple[str, np.ndarray]]:
    with open(shard, "rb") as file:
        for name, member in sample.members.items():
            if name != "json":
                data = read_at(file.fileno(), member.entry.size, member.entry.offset)
                header = member.header
                try:
                    yield name, members.decode(header.encoding, header.start, header.shape, data)
                except DataError as error:
                    raise DataError(f"{shard}: member {member.entry.name}: {error}") from error


def _summary(moments: list[_Moments]) -> FieldStatistics:
    low, high, means, squares, medians = np.array(moments, dtype=np.float64).T
    with np.errstate(all="ignore"):
        mean, square = means.mean(), squares.mean()
        return {
            "images": len(moments),
            "min": _rounded(low.min()),
            "max": _rounded(high.max()),
            "mean": _rounded(mean),
            "std": _rounded(np.sqrt(np.maximum(square - mean**2, 0.0))),
            "median": _rounded(np.median(medians)),
        }


def _rounded(value: float) -> float | None:
    """Six digits; None where not finite, for which JSON has no number."""
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _write(folder: Path, header: IndexHeader, table: np.ndarray) -> None:
    """Write the index beside the tars, or into the user's cache where that folder is read-only."""
    problems = []
    for location in index.locations(folder):
        try:
            return index.write_files(location, header, table)
        except OSError as error:
            problems.append(f"{location}: {error.strerror or error}")
    raise MachineError(f"cannot write the index of {folder} ({'; '.join(problems)}); set QUELL_CACHE to a folder")
