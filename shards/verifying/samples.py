"""What can be wrong with the samples of a split: checksums, pixel values, pairs, copies; each in one sentence."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from quell.configs.errors import DataError
from quell.shards.format.index import MISSING
from quell.shards.reading.shard_set import ShardSet
from quell.shards.verifying.turned_pairs import PairScores, anchor

THUMBNAIL_PX = 24
"""Pairs are compared by thumbnails of so many pixels a side."""
MIN_TYPICAL_SIMILARITY = 0.5
"""Fields whose typical similarity is lower (contrasts with other grey values) are not compared."""
OUTLIER_MADS = 6.0
OUTLIER_DROP = 0.15
"""A pair is doubtful where its similarity is below the split's median by so many (normal-consistent) median absolute
deviations, and by this much."""
MIN_PAIRS = 5
"""Fewer pairs do not tell what is typical."""

Thumbnails = dict[str, list[np.ndarray | None]]
"""Field -> thumbnail of each sample; None where there is none to compare."""


class ImageRef(NamedTuple):
    """One image of a split."""

    sample: int
    field: str


@dataclass(frozen=True)
class Defect:
    """Something that is wrong, or may be. Reports contain these attributes."""

    severity: Literal["error", "warning"]
    kind: str
    where: str
    says: str


@dataclass
class SplitContent:
    """The defects of a split, and what is needed to compare it with others."""

    defects: list[Defect]
    groups: dict[str, str]
    """Group -> key of the first sample in it."""
    images: dict[tuple[int, int], ImageRef]
    """(size, CRC-32) of a member -> the first image stored as such."""
    pairs: PairScores
    """How well the fields of each sample fit each other."""


def check_samples(shards: ShardSet) -> SplitContent:
    """Read every member of a split and look for defects."""
    defects = _changed_shards(shards)
    changed = {defect.where for defect in defects}
    defects += _incomplete_fields(shards) + _duplicate_keys(shards)
    thumbnails: Thumbnails = {field: [] for field in shards.fields}
    pairs = PairScores.of_fields([] if shards.meta.get("paired") is False else list(shards.fields))
    groups: dict[str, str] = {}
    group_of: list[str | None] = []
    for sample in range(len(shards)):
        if str(shards.files.paths[shards.shard_of(sample)]) in changed:
            group_of.append(None)
            for field in thumbnails:
                thumbnails[field].append(None)
            continue
        defects += _damaged_notes(shards, sample, groups, group_of)
        defects += _damaged_images(shards, sample, thumbnails, pairs)
    defects += _unequal_sizes(shards) + _doubtful_pairs(shards, thumbnails)
    images, copies = _copies(shards, group_of)
    return SplitContent(defects + copies, groups, images, pairs)


def same_pixels(a: ShardSet, image_a: ImageRef, b: ShardSet, image_b: ImageRef) -> bool:
    """Whether two images with one size and checksum are really equal."""
    first, second = a.read(*image_a, verify=False), b.read(*image_b, verify=False)
    return first.shape == second.shape and first.tobytes() == second.tobytes()


def _changed_shards(shards: ShardSet) -> list[Defect]:
    defects = []
    for number, path in enumerate(shards.files.paths):
        try:
            shards.files.check(number)
        except DataError as error:
            defects.append(Defect("error", "shard", str(path), str(error)))
    return defects


def _incomplete_fields(shards: ShardSet) -> list[Defect]:
    """Fields that some samples do not have, or that differ in type."""
    defects = []
    for field, info in shards.fields.items():
        where = f"{shards.path}: {field}"
        if info.count < len(shards):
            lacking = f"{len(shards) - info.count} of {len(shards)} samples lack it"
            says = f"{lacking}, the first is {shards.first_key_without(field)}"
            defects.append(Defect("error", "missing member", where, says))
        if info.first_mismatch:
            defects.append(Defect("error", "mixed types", where, f"sample {info.first_mismatch}"))
    return defects


def _duplicate_keys(shards: ShardSet) -> list[Defect]:
    counts = Counter(shards.keys(np.arange(len(shards))))
    return [
        Defect("error", "duplicate key", str(shards.path), f"{count} samples have the key {key}")
        for key, count in counts.items()
        if count > 1
    ]


def _damaged_notes(shards: ShardSet, sample: int, groups: dict[str, str], group_of: list[str | None]) -> list[Defect]:
    """Read the sample's JSON notes, and collect its group."""
    try:
        group = shards.json(sample).get("group")
    except DataError as error:
        group_of.append(None)
        return [Defect("error", "damaged notes", shards.key(sample), str(error))]
    group_of.append(None if group is None else str(group))
    if group is not None:
        groups.setdefault(str(group), shards.key(sample))
    return []


def _damaged_images(shards: ShardSet, sample: int, thumbnails: Thumbnails, pairs: PairScores) -> list[Defect]:
    """Read the sample's images, which verifies them; collect their thumbnails, and how well they fit each other."""
    defects = []
    usable: dict[str, np.ndarray] = {}
    for field in shards.fields:
        thumbnail = None
        where = f"{shards.path.name}: {shards.key(sample)}.{field}"
        if shards.column(field)["kind"][sample] != MISSING:
            try:
                image = shards.read(sample, field)
                if _is_constant(image):
                    defects.append(Defect("warning", "empty image", where, f"every pixel is {image.flat[0]}"))
                else:
                    thumbnail, usable[field] = _thumbnail(image), image
            except DataError as error:
                defects.append(Defect("error", "damaged image", where, str(error)))
        thumbnails[field].append(thumbnail)
    pairs.add(shards.key(sample), usable)
    return defects


def _is_constant(image: np.ndarray) -> bool:
    parts = (image.real, image.imag) if image.dtype.kind == "c" else (image,)
    return all(bool(part.min() == part.max()) for part in parts)


def _unequal_sizes(shards: ShardSet) -> list[Defect]:
    """Samples whose fields differ in height or width."""
    names = [field for field, info in shards.fields.items() if info.count == len(shards)]
    sizes = {shape[:2] if (shape := shards.fields[name].shape) else None for name in names}
    if len(sizes) <= 1 and None not in sizes:
        return []
    defects = []
    for sample in range(len(shards)):
        by_field = {name: shards.shape(sample, name)[:2] for name in names}
        if len(set(by_field.values())) > 1:
            says = ", ".join(f"{name} {height} x {width}" for name, (height, width) in by_field.items())
            defects.append(Defect("error", "size mismatch", f"{shards.path.name}: {shards.key(sample)}", says))
    return defects


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """The magnitude averaged over blocks, with zero mean and unit length: products of these are correlations."""
    magnitude = np.abs(image).astype(np.float64)
    if magnitude.ndim == 3:
        magnitude = magnitude.mean(axis=2)
    rows, columns = (np.linspace(0, side, min(THUMBNAIL_PX, side) + 1).astype(int)[:-1] for side in magnitude.shape)
    small = np.add.reduceat(np.add.reduceat(magnitude, rows, axis=0), columns, axis=1)
    areas = np.outer(np.diff(np.append(rows, magnitude.shape[0])), np.diff(np.append(columns, magnitude.shape[1])))
    small = small / areas
    small = small - small.mean()
    return small / (np.sqrt((small**2).sum()) or 1.0)


def _doubtful_pairs(shards: ShardSet, thumbnails: Thumbnails) -> list[Defect]:
    """Samples in which two fields are far less alike than usual: one may belong to another image."""
    names = list(thumbnails)
    if len(names) < 2 or len(shards) < MIN_PAIRS:
        return []
    first = anchor(names)
    defects = []
    for name in names:
        if name == first:
            continue
        for sample, similarity, typical in _outliers(thumbnails[first], thumbnails[name]):
            says = f"{name} resembles {first} by {similarity:.2f}, usual here is {typical:.2f}"
            defects.append(Defect("warning", "doubtful pair", f"{shards.path.name}: {shards.key(sample)}", says))
    return defects


def _outliers(anchors: list[np.ndarray | None], others: list[np.ndarray | None]) -> Iterator[tuple[int, float, float]]:
    """Samples of unusually low similarity: number, similarity, and the typical one."""
    similarities = np.array(
        [
            float((a * b).sum()) if a is not None and b is not None and a.shape == b.shape else np.nan
            for a, b in zip(anchors, others, strict=True)
        ]
    )
    if np.isfinite(similarities).sum() < MIN_PAIRS:
        return
    typical = float(np.nanmedian(similarities))
    if typical < MIN_TYPICAL_SIMILARITY:
        return
    spread = 1.4826 * np.nanmedian(np.abs(similarities - typical))  # a normal distribution's standard deviation
    limit = typical - max(OUTLIER_MADS * spread, OUTLIER_DROP)
    for sample in np.flatnonzero(similarities < limit).tolist():
        yield sample, float(similarities[sample]), typical


def _copies(shards: ShardSet, group_of: list[str | None]) -> tuple[dict[tuple[int, int], ImageRef], list[Defect]]:
    """Images by size and checksum, and pixels that come twice in one field of the split, unless in one group."""
    images: dict[tuple[int, int], ImageRef] = {}
    defects = []
    for field in shards.fields:
        column = shards.column(field)
        first_with: dict[tuple[int, int], int] = {}
        for sample, (size, crc, kind) in enumerate(
            zip(column["size"].tolist(), column["crc"].tolist(), column["kind"].tolist(), strict=True)
        ):
            if kind == MISSING:
                continue
            images.setdefault((size, crc), ImageRef(sample, field))
            first = first_with.setdefault((size, crc), sample)
            if first != sample and (group_of[first] is None or group_of[first] != group_of[sample]):
                where = f"{shards.path.name}: {shards.key(sample)}"
                says = f"field {field} equals that of {shards.key(first)}"
                defects.append(Defect("warning", "same pixels twice", where, says))
    return images, defects
