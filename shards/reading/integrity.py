"""What can be wrong with the samples of a split: checksums, numbers, pairs, copies. Each finding is one sentence."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np

from configs.errors import DataError
from shards.format.index import MISSING
from shards.reading.shard_set import ShardSet

THUMB = 24
"""Pairs are compared on images of this many pixels a side."""
LIKE = 0.5
"""Fields that usually resemble each other less (contrasts with other grey values) are not compared."""
OUTLIER_MADS = 6.0
OUTLIER_DROP = 0.15
"""A pair is doubtful when its similarity lies this many deviations, and this much, below the split's median."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or may be."""

    severity: Literal["error", "warning"]
    kind: str
    where: str
    says: str


@dataclass
class Content:
    """What reading a whole split leaves behind."""

    findings: list[Finding]
    groups: dict[str, str]
    """Group -> first key that has it."""
    members: dict[tuple[int, int], tuple[int, str]]
    """(size, CRC-32) of an image -> the first sample and field that hold it."""


def check_samples(shards: ShardSet) -> Content:
    """Read every member of a split."""
    findings = list(_shards_changed(shards))
    changed = {finding.where for finding in findings}
    findings += _fields(shards) + _keys(shards)
    thumbs: dict[str, list[np.ndarray | None]] = {field: [] for field in shards.fields}
    groups: dict[str, str] = {}
    group_of: list[str | None] = []
    for sample in range(len(shards)):
        if str(shards.files.paths[shards.shard_of(sample)]) in changed:
            group_of.append(None)
            for field in thumbs:
                thumbs[field].append(None)
            continue
        findings += _notes(shards, sample, groups, group_of) + _images(shards, sample, thumbs)
    findings += _sizes(shards) + _doubtful_pairs(shards, thumbs)
    members, copies = _copies(shards, group_of)
    return Content(findings + copies, groups, members)


def same_pixels(a: ShardSet, one: tuple[int, str], b: ShardSet, other: tuple[int, str]) -> bool:
    """Whether two members really are equal, not only their checksums."""
    first, second = (shards.read(*member, verify=False) for shards, member in ((a, one), (b, other)))
    return first.shape == second.shape and first.tobytes() == second.tobytes()


def _shards_changed(shards: ShardSet) -> list[Finding]:
    found = []
    for number, path in enumerate(shards.files.paths):
        try:
            shards.files.check(number)
        except DataError as error:
            found.append(Finding("error", "shard", str(path), str(error)))
    return found


def _fields(shards: ShardSet) -> list[Finding]:
    """Members some samples lack, and mixed types."""
    found = []
    for field, info in shards.fields.items():
        if info.count < len(shards):
            first = shards.key(int((shards.column(field)["kind"] == MISSING).argmax()))
            found.append(
                Finding(
                    "error",
                    "missing member",
                    f"{shards.path}: {field}",
                    f"{len(shards) - info.count} of {len(shards)} samples lack it, the first is {first}",
                )
            )
        if info.odd:
            found.append(Finding("error", "mixed types", f"{shards.path}: {field}", f"sample {info.odd}"))
    return found


def _keys(shards: ShardSet) -> list[Finding]:
    counts = Counter(shards.keys(np.arange(len(shards))))
    return [
        Finding("error", "duplicate key", str(shards.path), f"{count} samples have the key {key}")
        for key, count in counts.items()
        if count > 1
    ]


def _notes(shards: ShardSet, sample: int, groups: dict[str, str], group_of: list[str | None]) -> list[Finding]:
    try:
        group = shards.json(sample).get("group")
    except DataError as error:
        group_of.append(None)
        return [Finding("error", "damaged notes", shards.key(sample), str(error))]
    group_of.append(None if group is None else str(group))
    if group is not None:
        groups.setdefault(str(group), shards.key(sample))
    return []


def _images(shards: ShardSet, sample: int, thumbs: dict[str, list[np.ndarray | None]]) -> list[Finding]:
    """Checksums, decoding, NaN, constant images; keeps a thumbnail of each field."""
    found = []
    for field in shards.fields:
        thumb = None
        where = f"{shards.path.name}: {shards.key(sample)}.{field}"
        if shards.column(field)["kind"][sample] != MISSING:
            try:
                image = shards.read(sample, field)
                low, high = (image.real.min(), image.real.max()) if image.size else (0, 0)
                if low == high and (image.dtype.kind != "c" or image.imag.min() == image.imag.max()):
                    found.append(Finding("warning", "empty image", where, f"every pixel is {image.flat[0]}"))
                else:
                    thumb = _thumb(image)
            except DataError as error:
                found.append(Finding("error", "damaged image", where, str(error)))
        thumbs[field].append(thumb)
    return found


def _sizes(shards: ShardSet) -> list[Finding]:
    """Fields of one sample that differ in height or width."""
    names = [field for field, info in shards.fields.items() if info.count == len(shards)]
    shapes = {shape[:2] if (shape := shards.fields[name].shape) else None for name in names}
    found = []
    for sample in range(len(shards)) if len(shapes) > 1 or None in shapes else ():
        sizes = {name: shards.shape(sample, name)[:2] for name in names}
        if len(set(sizes.values())) > 1:
            says = ", ".join(f"{name} {height} x {width}" for name, (height, width) in sizes.items())
            found.append(Finding("error", "size mismatch", f"{shards.path.name}: {shards.key(sample)}", says))
    return found


def _thumb(image: np.ndarray) -> np.ndarray:
    """A small, normalised version: means over blocks of the magnitude, zero mean, unit length."""
    magnitude = np.abs(image).astype(np.float64)
    if magnitude.ndim == 3:
        magnitude = magnitude.mean(axis=2)
    rows, columns = (np.linspace(0, side, min(THUMB, side) + 1).astype(int)[:-1] for side in magnitude.shape)
    small = np.add.reduceat(np.add.reduceat(magnitude, rows, axis=0), columns, axis=1)
    areas = np.outer(np.diff(np.append(rows, magnitude.shape[0])), np.diff(np.append(columns, magnitude.shape[1])))
    small = small / areas
    small = small - small.mean()
    return small / (np.sqrt((small**2).sum()) or 1.0)


def _doubtful_pairs(shards: ShardSet, thumbs: dict[str, list[np.ndarray | None]]) -> list[Finding]:
    """Fields far less like the sample's first field than in the other samples: perhaps of another image."""
    names = list(thumbs)
    if len(names) < 2 or len(shards) < 5:
        return []
    found = []
    anchor = "noisy" if "noisy" in names else names[0]
    for name in names:
        scores = np.array(
            [
                float((a * b).sum()) if a is not None and b is not None and a.shape == b.shape else np.nan
                for a, b in zip(thumbs[anchor], thumbs[name], strict=True)
            ]
        )
        if name == anchor or np.isfinite(scores).sum() < 5:
            continue
        middle = np.nanmedian(scores)
        if middle < LIKE:
            continue
        spread = 1.4826 * np.nanmedian(np.abs(scores - middle))
        limit = middle - max(OUTLIER_MADS * spread, OUTLIER_DROP)
        for sample in np.flatnonzero(scores < limit).tolist():
            found.append(
                Finding(
                    "warning",
                    "doubtful pair",
                    f"{shards.path.name}: {shards.key(sample)}",
                    f"{name} resembles {anchor} by {scores[sample]:.2f}, usual here is {middle:.2f}",
                )
            )
    return found


def _copies(
    shards: ShardSet, group_of: list[str | None]
) -> tuple[dict[tuple[int, int], tuple[int, str]], list[Finding]]:
    """Members by size and checksum, and pixels that appear twice in one field of a split, unless in one group."""
    members: dict[tuple[int, int], tuple[int, str]] = {}
    found = []
    for field in shards.fields:
        column = shards.column(field)
        mine: dict[tuple[int, int], int] = {}
        for sample, (size, crc, kind) in enumerate(
            zip(column["size"].tolist(), column["crc"].tolist(), column["kind"].tolist(), strict=True)
        ):
            if kind == MISSING:
                continue
            members.setdefault((size, crc), (sample, field))
            first = mine.setdefault((size, crc), sample)
            if first != sample and (group_of[first] is None or group_of[first] != group_of[sample]):
                found.append(
                    Finding(
                        "warning",
                        "same pixels twice",
                        f"{shards.path.name}: {shards.key(sample)}",
                        f"field {field} equals that of {shards.key(first)}",
                    )
                )
    return members, found
