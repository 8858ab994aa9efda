"""How samples become batches, said before anything is read: fields, geometry, units; checked against the shards.

Legend: N samples, C channels, H height, W width. A batch is a dict: each field float32 NCHW (complex64 NCHW when the
representation is complex); `<field>_scale` float32 (N, 1, 1, 1), what the field was divided by; each name in `normals`
a standard-normal tensor like its field; `index` int64 (N,), `key` list of str.
"""

import zlib
from dataclasses import dataclass, field
from typing import Literal

from configs.errors import ConfigError, DataError
from configs.fields import FieldSpec, Source
from shards.format.index import MISSING
from shards.reading.shard_set import FieldInfo, ShardSet

INTEGER_MAX = {"uint8": 255.0, "uint16": 65535.0}
"""Integer images are read into [0, 1] by dividing by these."""


@dataclass(frozen=True)
class Recipe:
    """What a batch holds and what is done to each sample on the way."""

    fields: dict[str, Source]
    normals: dict[str, str] = field(default_factory=dict)
    crop: int | None = None
    """Side of the square crop in pixels; None takes whole images, which must then share one size."""
    flip: bool = False
    """Mirror vertically and horizontally, each with probability one half."""
    rotate: bool = False
    """Turn by a multiple of 90 degrees."""
    phase: bool = False
    """Multiply complex images by exp(i theta), theta uniform, one theta for all fields of a sample."""
    normalise: Literal["median", "none"] = "none"
    """Divide each field by the median of its magnitude (mean, then 1, where that is zero)."""
    representation: Literal["auto", "ri", "complex", "magnitude"] = "auto"


@dataclass(frozen=True)
class BoundField:
    """One field of a recipe, resolved against the shards."""

    name: str
    member: str
    stream: int
    """0: the batch's own sample; otherwise the number of the draw this field follows."""
    scale_of: str | None
    info: FieldInfo
    spec: FieldSpec
    divisor: float
    """Top value of integer images, 1 for others."""


def bind(recipe: Recipe, shards: ShardSet, *, one_size: bool = True) -> list[BoundField]:
    """The fields of the recipe that these shards hold, in an order in which scales are known before they are used.

    `one_size`: refuse whole images of different sizes, which cannot share a batch.
    Raises ConfigError for what the recipe says wrong and DataError for what the data cannot give.
    """
    names = {name: source.member or name for name, source in recipe.fields.items()}
    missing = {
        name: member
        for name, member in names.items()
        if member not in shards.fields and not recipe.fields[name].optional
    }
    if missing:
        wanted = ", ".join(name if name == member else f"{name} (member {member})" for name, member in missing.items())
        raise DataError(
            f"{shards.path}: the method needs {wanted}, these shards hold {', '.join(shards.fields)}; "
            "name the right members in data.fields"
        )
    bound = [
        _bind(name, source, names[name], recipe, shards)
        for name, source in recipe.fields.items()
        if names[name] in shards.fields
    ]
    bound.sort(key=lambda one: one.scale_of is not None)
    _check_references(recipe, bound)
    _check_geometry(recipe, bound, shards, one_size)
    return bound


def specs(recipe: Recipe, shards: ShardSet) -> dict[str, FieldSpec]:
    """What each field will look like to a network."""
    return {one.name: one.spec for one in bind(recipe, shards)}


def spec_of(member: str, dtype: str, channels: int, representation: str) -> FieldSpec:
    """What images stored with this dtype (numpy's name) and so many channels will look like to a network."""
    complex_data = dtype.startswith("complex")
    if representation in ("ri", "complex") and not complex_data:
        raise ConfigError(
            f"data.representation {representation}: field {member} is {dtype}, which has no imaginary "
            "part; use auto or magnitude"
        )
    if complex_data and channels > 1:
        raise DataError(f"field {member}: complex images of {channels} channels are not supported; combine coils")
    if complex_data and representation in ("auto", "ri"):
        return FieldSpec(channels=2, layout="ri")
    return FieldSpec(channels=channels, layout="complex" if representation == "complex" else "real")


def stream_number(name: str) -> int:
    """A number for the random draws belonging to a name; never 0, which is the sample's own."""
    return zlib.crc32(name.encode()) | 1 << 32


def _bind(name: str, source: Source, member: str, recipe: Recipe, shards: ShardSet) -> BoundField:
    info = shards.fields[member]
    if info.odd:
        raise DataError(f"{shards.path}: field {member} is mixed: sample {info.odd}; separate them or build them alike")
    if info.count < len(shards):
        first = int((shards.column(member)["kind"] == MISSING).argmax())
        raise DataError(
            f"{shards.path}: {len(shards) - info.count} of {len(shards)} samples lack field {member}, "
            f"the first is {shards.key(first)}"
        )
    anchor = name
    if (
        source.draw == "unpaired"
        and source.scale_of
        and recipe.fields.get(source.scale_of, Source()).draw == "unpaired"
    ):
        anchor = source.scale_of  # shares the scale, so it must show the same sample
    spec = spec_of(member, info.dtype, info.channels, recipe.representation)
    return BoundField(
        name,
        member,
        stream_number(anchor) if source.draw == "unpaired" else 0,
        source.scale_of,
        info,
        spec,
        INTEGER_MAX.get(info.dtype, 1.0),
    )


def _check_references(recipe: Recipe, bound: list[BoundField]) -> None:
    names = {one.name: one for one in bound}
    for one in bound:
        target = one.scale_of
        if target is not None and (target not in names or names[target].scale_of is not None):
            raise ConfigError(f"field {one.name}: scale_of {target} must name a field of the batch with its own scale")
    for name, like in recipe.normals.items():
        if like not in names and not (like in recipe.fields and recipe.fields[like].optional):
            raise ConfigError(f"normals {name}: no field {like} in the batch")
        if name in recipe.fields:
            raise ConfigError(f"normals {name}: a field has the same name")


def _check_geometry(recipe: Recipe, bound: list[BoundField], shards: ShardSet, one_size: bool) -> None:
    for one in bound:
        height, width = one.info.smallest
        if recipe.crop is not None and min(height, width) < recipe.crop:
            raise DataError(
                f"{shards.path}: data.crop {recipe.crop} is larger than the smallest image of field "
                f"{one.member} ({height} x {width}); make it {min(height, width)} or less, or null"
            )
        if recipe.crop is None and one_size and one.info.shape is None:
            raise DataError(
                f"{shards.path}: images of field {one.member} differ in size (the smallest are {height} x "
                f"{width}): set data.crop to {min(height, width)} or less"
            )
        if recipe.crop is None and recipe.rotate and height != width:
            raise ConfigError(
                f"data.rotate turns {height} x {width} images on their side: set data.crop, or data.rotate=false"
            )
    first = bound[0] if bound else None
    for one in bound:
        if not first or one.stream != first.stream or one.info.shape is None or first.info.shape is None:
            continue
        if one.info.shape[:2] != first.info.shape[:2]:
            raise DataError(
                f"{shards.path}: fields {first.member} {first.info.shape} and {one.member} "
                f"{one.info.shape} of one sample differ in size; build them alike"
            )
