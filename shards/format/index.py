"""The side-car index of a folder of tars: where every member lies, what it is, and its checksum.

`index.json` holds what the data set is (shards with fingerprints, fields, statistics, the builder's notes); `index.npy`
is a memory-mapped table with one row per sample, so that opening costs the same for a hundred samples and ten million.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import DataError, MachineError
from shards.format import members as _members
from shards.format import tar
from shards.format.members import Head, Kind

FORMAT = "quell shard index"
VERSION = 1
HEADER, TABLE = "index.json", "index.npy"
MISSING = 255
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
"""One member: its bytes in the tar, CRC-32, bytes before the pixels, number of its kind, and shape (d0, d1, d2)."""

STATISTICS_SAMPLES = 32
MEDIAN_PX = 16384
"""The statistics' median is that of so many pixels spread over an image; all others are exact."""
WHOLE_BYTES = 8_000_000
"""Tables up to this size are checked whole when they are opened, larger ones at both ends (remote ones whole)."""


@dataclass
class _Member:
    place: tar.Place
    crc: int
    head: Head


@dataclass
class _Sample:
    key: str
    shard: int
    members: dict[str, _Member]


def tars(folder: Path) -> list[Path]:
    """The shards of a split, in name order. Raises DataError when there is no folder or no plain tar in it."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of shards")
    found = sorted(folder.glob("*.tar"))
    if not found:
        packed = sorted(file.name for file in folder.glob("*.tar.*"))
        splits = sorted(child.name for child in folder.iterdir() if child.is_dir() and any(child.glob("*.tar")))
        hint = f"; {packed[0]} is compressed: unpack it" if packed else ""
        hint = hint or (f"; it has the splits {', '.join(splits)}: name one of them" if splits else "")
        raise DataError(f"{folder}: no .tar shards here{hint}")
    return found


def locations(folder: Path) -> list[Path]:
    """Folders where the index of `folder` may lie: beside the tars, else the user's cache, if there is a home."""
    cache = os.environ.get("QUELL_CACHE") or os.path.expanduser("~/.cache/quell")
    if cache.startswith("~"):
        return [folder]
    return [folder, Path(cache) / "index" / hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:24]]


def build(folder: Path, *, meta: dict[str, Any] | None = None) -> dict[str, Any]:
    """Read every shard once and write its index; returns the header.

    `meta` is what the builder knows (data_range, source, licence, sigma, ...); for foreign tars `meta.json` beside them
    is taken when it is there. The result depends on the tars alone, and each file appears by renaming, so ranks that
    build at the same moment write the same. Raises DataError naming shard and member for anything that cannot be used.
    """
    shards = tars(folder)
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        samples = [sample for found in pool.map(read_shard, range(len(shards)), shards) for sample in found]
    if not samples:
        raise DataError(f"{folder}: no arrays or images in the shards (members such as key.pd.npy or key.png)")
    table, kinds = _table(samples)
    prints = [_print_of(shard) for shard in shards]
    counts = np.bincount(table["shard"], minlength=len(shards)).tolist()
    fields = {name: _describe(name, samples) for name in (table.dtype.names or ())[2:] if name != "json"}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "samples": len(samples),
        "shards": [
            {"name": shard.name, **found._asdict(), "samples": count}
            for shard, found, count in zip(shards, prints, counts, strict=True)
        ],
        "kinds": [kind._asdict() for kind in kinds],
        "fields": fields,
        "meta": meta if meta is not None else _foreign_meta(folder, fields),
        "statistics": _statistics(shards, samples),
    }
    _write(folder, header, table)
    return header


def write_files(folder: Path, header: dict[str, Any], table: np.ndarray) -> None:
    """Write table and header, each by renaming a finished file into place; the header last."""
    folder.mkdir(parents=True, exist_ok=True)
    unique = f".{os.getpid()}.{os.urandom(4).hex()}.tmp"
    with open(folder / (TABLE + unique), "wb+") as file:
        np.lib.format.write_array(file, table, allow_pickle=False)
        file.flush()
        header = {**header, "table": table_print(file.fileno(), whole=True)}
    os.replace(folder / (TABLE + unique), folder / TABLE)
    write_header(folder, header)


def write_header(folder: Path, header: dict[str, Any]) -> None:
    """Write index.json with its own checksum, by renaming."""
    unique = f".{os.getpid()}.{os.urandom(4).hex()}.tmp"
    header = {**header, "checksum": header_checksum(header)}
    (folder / (HEADER + unique)).write_text(json.dumps(header, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(folder / (HEADER + unique), folder / HEADER)


def header_checksum(header: dict[str, Any]) -> int:
    """CRC-32 of everything in the header but the checksum itself."""
    rest = {key: value for key, value in header.items() if key != "checksum"}
    return zlib.crc32(json.dumps(rest, sort_keys=True).encode())


def table_print(descriptor: int, *, whole: bool = False) -> dict[str, Any]:
    """What the header notes about the table: its fingerprint, and the CRC-32 of all of it where it is small or that is
    asked (else None).
    """
    found = tar.fingerprint(descriptor)
    crc = None
    if whole or found.size <= WHOLE_BYTES:
        crc = 0
        for at in range(0, found.size, WHOLE_BYTES):
            crc = zlib.crc32(os.pread(descriptor, WHOLE_BYTES, at), crc)
    return {**found._asdict(), "whole": crc}


def _write(folder: Path, header: dict[str, Any], table: np.ndarray) -> None:
    """Beside the tars, or in the user's cache where that folder is read-only."""
    problems = []
    for place in locations(folder):
        try:
            return write_files(place, header, table)
        except OSError as error:
            problems.append(f"{place}: {error.strerror or error}")
    raise MachineError(f"the index of {folder} can be written nowhere ({'; '.join(problems)}); set QUELL_CACHE")


def _print_of(shard: Path) -> tar.Fingerprint:
    with open(shard, "rb") as file:
        return tar.fingerprint(file.fileno())


def read_shard(number: int, path: Path) -> list[_Sample]:
    """The samples of one tar: adjacent members with the same key."""
    samples: list[_Sample] = []
    keys: set[str] = set()
    buffer = bytearray(1 << 16)
    with open(path, "rb") as file:
        for place in tar.scan(path):
            named = _members.split_name(place.name)
            if named is None:
                continue
            key, field, codec = named
            if reason := _members.refusal(codec):
                raise DataError(f"{path}: member {place.name} is refused: {reason}")
            if codec not in _members.IMAGES + _members.ARRAYS and field != "json":
                continue
            if not samples or samples[-1].key != key:
                if key in keys:
                    raise DataError(f"{path}: the members of sample {key} are not adjacent (or two have that key)")
                keys.add(key)
                samples.append(_Sample(key, number, {}))
            if field in samples[-1].members:
                raise DataError(f"{path}: sample {key} holds field {field} twice (as {place.name} too)")
            if len(buffer) < place.size:
                buffer = bytearray(place.size)  # used for every member: fresh pages cost as much as reading
            samples[-1].members[field] = _read_member(path, file.fileno(), place, codec, buffer)
    return [sample for sample in samples if set(sample.members) != {"json"}]


def _read_member(path: Path, descriptor: int, place: tar.Place, codec: str, buffer: bytearray) -> _Member:
    data = memoryview(buffer)[: place.size]
    try:
        if os.preadv(descriptor, [data], place.offset) != place.size:
            raise DataError("the shard is cut off inside it")
        head = Head(Kind("json", ""), 0, ()) if codec == "json" else _members.head(codec, data, place.size)
    except DataError as error:
        raise DataError(f"{path}: member {place.name}: {error}") from error
    return _Member(place, zlib.crc32(data), head)


def _table(samples: list[_Sample]) -> tuple[np.ndarray, list[Kind]]:
    """The structured table and the list its `kind` numbers point into."""
    names = sorted({name for sample in samples for name in sample.members})
    kinds = sorted({member.head.kind for sample in samples for member in sample.members.values()})
    if len(kinds) >= MISSING:
        raise DataError(f"{len(kinds)} kinds of members are more than an index can hold ({MISSING - 1})")
    numbers = {kind: number for number, kind in enumerate(kinds)}
    keys = [sample.key.encode() for sample in samples]
    columns: list[Any] = [("key", f"S{max(map(len, keys))}"), ("shard", "<u4"), *((name, MEMBER) for name in names)]
    table = np.zeros(len(samples), dtype=columns)
    table["key"] = keys
    table["shard"] = [sample.shard for sample in samples]
    blank = (0, 0, 0, 0, MISSING, 0, 0, 0, 0)
    for name in names:
        table[name] = [
            _record(sample.members[name], numbers) if name in sample.members else blank for sample in samples
        ]
    return table, kinds


def _record(member: _Member, numbers: dict[Kind, int]) -> tuple[int, ...]:
    shape = (*member.head.shape, 0, 0, 0)[:3]
    return (
        member.place.offset,
        member.place.size,
        member.crc,
        member.head.start,
        numbers[member.head.kind],
        len(member.head.shape),
        *shape,
    )


def plain_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(H, W) or (H, W, C): a leading or closing axis of one is dropped."""
    if len(shape) == 3 and shape[2] == 1:
        return shape[:2]
    return shape[1:] if len(shape) == 3 and shape[0] == 1 and shape[2] > 16 else shape


def _describe(name: str, samples: list[_Sample]) -> dict[str, Any]:
    """What a field holds over the whole set; `odd` names the first sample whose dtype or channels differ."""
    count, shapes, first, odd = 0, set(), None, None
    for sample in samples:
        if (member := sample.members.get(name)) is None:
            continue
        count += 1
        shape = plain_shape(member.head.shape)
        shapes.add(shape)
        is_now = (np.dtype(member.head.kind.dtype).name, shape[2] if len(shape) == 3 else 1)
        first = first or is_now
        if is_now != first and odd is None:
            odd = f"{sample.key} has {is_now[1]} channel(s) of {is_now[0]} instead of {first[1]} of {first[0]}"
    assert first is not None
    smallest = [min(shape[axis] for shape in shapes) for axis in (0, 1)]
    return {
        "dtype": first[0],
        "channels": first[1],
        "shape": list(shapes.pop()) if len(shapes) == 1 else None,
        "smallest": smallest,
        "count": count,
        "odd": odd,
    }


def _foreign_meta(folder: Path, fields: dict[str, Any]) -> dict[str, Any]:
    """meta.json beside the tars; else what can be said: integer images are read into [0, 1]."""
    notes = folder / "meta.json"
    if notes.is_file():
        try:
            meta = json.loads(notes.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{notes}: not readable as JSON ({error})") from error
        if not isinstance(meta, dict):
            raise DataError(f'{notes}: expected a JSON object such as {{"data_range": 1.0}}')
        return meta
    integers = all(field["dtype"] in ("uint8", "uint16") for field in fields.values())
    return {"source": "foreign tars", **({"data_range": 1.0} if integers else {})}


def _statistics(shards: list[Path], samples: list[_Sample]) -> dict[str, Any]:
    """Range, mean and deviation of each field (of the magnitude where complex) over samples spread evenly."""
    chosen = [samples[i] for i in np.unique(np.linspace(0, len(samples) - 1, STATISTICS_SAMPLES).astype(int))]
    found: dict[str, list[np.ndarray]] = {}
    for sample in chosen:
        for name, values in _images(shards[sample.shard], sample):
            with np.errstate(all="ignore"):
                magnitude = np.abs(values).ravel()
                mean = magnitude.mean(dtype=np.float64)
                moments = (
                    magnitude.min(),
                    magnitude.max(),
                    mean,
                    magnitude.std(dtype=np.float64) ** 2 + mean**2,
                    np.median(magnitude[:: -(-magnitude.size // MEDIAN_PX)]),
                )
            found.setdefault(name, []).append(np.array(moments, dtype=np.float64))
    return {name: _summary(np.stack(rows)) for name, rows in sorted(found.items())}


def _images(shard: Path, sample: _Sample) -> Iterator[tuple[str, np.ndarray]]:
    with open(shard, "rb") as file:
        for name, member in sample.members.items():
            if name != "json":
                data = os.pread(file.fileno(), member.place.size, member.place.offset)
                try:
                    yield name, _members.decode(member.head.kind, member.head.start, member.head.shape, data)
                except DataError as error:
                    raise DataError(f"{shard}: member {member.place.name}: {error}") from error


def _summary(rows: np.ndarray) -> dict[str, Any]:
    with np.errstate(all="ignore"):
        mean, square = rows[:, 2].mean(), rows[:, 3].mean()
        numbers = {
            "min": rows[:, 0].min(),
            "max": rows[:, 1].max(),
            "mean": mean,
            "std": np.sqrt(np.maximum(square - mean**2, 0.0)),
            "median": np.median(rows[:, 4]),
        }
    return {
        "images": len(rows),
        **{name: float(f"{value:.6g}") if np.isfinite(value) else None for name, value in numbers.items()},
    }
