"""How samples become batches: a recipe states it, and `bind` checks it against the shards before anything is read.

N samples, C channels, H height, W width. A finished batch is a dict of:

- each field: float32 (N, C, H, W), or complex64 (N, C, H, W) with representation "complex";
- `<field>_scale`: float32 (N, 1, 1, 1), what the field was divided by;
- each name in `normals`: standard-normal numbers of the shape and dtype of its field, plus its margin;
- `seeds`, where asked for: int64 (N, 2), what a method draws further random numbers of each sample from;
- `window`, where asked for: int64 (N, 7), which part of the stored image a crop is (`configs.fields.WINDOW`);
- `index`: int64 (N,), the number of each sample; `key`: list of N str, its name.

With draws of version 1 a loader returns finished batches. Otherwise its images are neither multiplied by a phase nor
divided by a scale, there are no scales and normals, and a batch holds what they are computed from on the device
(launch/data/finishing.py):

- `epoch`: int64 (N,), the epoch of each sample;
- `theta`, where the recipe has a phase: float32 (N,), the phase of each sample in radians; `<field>_theta`, that of an
  unpaired field.
"""

import zlib
from dataclasses import dataclass, field
from typing import Literal

from quell.configs.errors import ConfigError, DataError
from quell.configs.fields import DRAWS, FieldSpec, Source
from quell.shards.reading.resized_split import as_shown
from quell.shards.reading.split import FieldInfo, Split

INTEGER_MAX = {"uint8": 255.0, "uint16": 65535.0}
"""Largest value of integer images, which are divided by it: batches hold them in [0, 1]."""


@dataclass(frozen=True)
class Recipe:
    """What a batch holds and what is done to each sample on the way."""

    fields: dict[str, Source]
    """Name in the batch -> where the field comes from."""
    normals: dict[str, str] = field(default_factory=dict)
    """Name of a standard-normal tensor -> the field whose shape it has."""
    margins: dict[str, int] = field(default_factory=dict)
    """Name of a standard-normal tensor -> rows and columns that it has beyond its field."""
    windows: bool = False
    """Whether batches hold `window`."""
    sizes: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Name of a standard-normal tensor -> its size, where that is not its field's; not with draws of version 1."""
    seeds: bool = False
    """Whether finished batches hold `seeds`, which have no use with draws of version 1."""
    resize: tuple[int, int] | None = None
    """Height and width that every image is resized to before anything else; None shows it as stored."""
    crop_at: Literal["random", "centre"] = "random"
    """Where the crop is taken."""
    crop: int | None = None
    """Side of the square crop in pixels; None takes whole images, which must then all have one size."""
    flip: bool = False
    """Mirror vertically and horizontally, each with probability one half."""
    rotate: bool = False
    """Rotate by a multiple of 90 degrees."""
    phase: bool = False
    """Multiply complex images by exp(i theta), theta uniform in [0, 2 pi), the same for all fields of a sample."""
    normalise: Literal["median", "none"] = "none"
    """Divide each image by the median of its magnitude (by the mean where that is zero, by 1 where both are)."""
    draws: int = DRAWS
    """Version of the random draws (`configs.fields.DRAWS`); with 1 the loader finishes the batches."""
    representation: Literal["auto", "ri", "complex", "magnitude"] = "auto"
    """What complex images become: two channels, real and imaginary ("auto", "ri"), a complex tensor, or magnitudes."""


@dataclass(frozen=True)
class BoundField:
    """One field of a recipe, resolved against the shards."""

    name: str
    member: str
    stream: int
    """0 where the field shows the sample of the batch, otherwise the number of the random stream that chooses an
    unpaired sample for it; fields with the same number show the same sample."""
    scale_of: str | None
    info: FieldInfo
    spec: FieldSpec
    divisor: float
    """Largest value of integer images, 1 for others."""


def bind(recipe: Recipe, split: Split, *, one_size: bool = True) -> list[BoundField]:
    """Resolve a recipe against a split.

    Args:
        recipe: What the batches shall hold.
        split: Where the samples come from.
        one_size: Whether to refuse whole images of different sizes, which cannot be in one batch.

    Returns:
        The fields of the recipe that the split holds; those that share the scale of another field come last, so that
        scales are known before they are used.

    Raises:
        ConfigError: The recipe contradicts itself or cannot be applied to this kind of images.
        DataError: The split does not hold what the recipe needs.
    """
    split = as_shown(split, recipe.resize)
    names = {name: source.member or name for name, source in recipe.fields.items()}
    missing = {
        name: member
        for name, member in names.items()
        if member not in split.fields and not recipe.fields[name].optional
    }
    if missing:
        needed = ", ".join(name if name == member else f"{name} (member {member})" for name, member in missing.items())
        raise DataError(
            f"{split.path}: the method needs {needed}, these shards hold {', '.join(split.fields)}; "
            "name the right members in data.fields"
        )
    bound = [
        _bind_field(name, source, names[name], recipe, split)
        for name, source in recipe.fields.items()
        if names[name] in split.fields
    ]
    bound.sort(key=lambda bound_field: bound_field.scale_of is not None)
    _check_references(recipe, bound)
    _check_geometry(recipe, bound, split, one_size)
    _check_equal_sizes(bound, split)
    return bound


def specs(recipe: Recipe, split: Split) -> dict[str, FieldSpec]:
    """What each field looks like to a network."""
    return {bound.name: bound.spec for bound in bind(recipe, split)}


def spec_of(member: str, dtype: str, channels: int, representation: str) -> FieldSpec:
    """What stored images look like to a network.

    Args:
        member: Name of the field, for messages.
        dtype: numpy's name of the stored dtype.
        channels: Channels of a stored image.
        representation: As `Recipe.representation`.

    Raises:
        ConfigError: The representation needs complex images, and these are real.
        DataError: Complex images with several channels.
    """
    is_complex = dtype.startswith("complex")
    if representation in ("ri", "complex") and not is_complex:
        raise ConfigError(
            f"data.representation {representation}: field {member} is {dtype}, which has no imaginary part; "
            "use auto or magnitude"
        )
    if is_complex and channels > 1:
        raise DataError(f"field {member}: complex images of {channels} channels are not supported; combine coils")
    if is_complex and representation in ("auto", "ri"):
        return FieldSpec(channels=2, layout="ri")
    return FieldSpec(channels=channels, layout="complex" if representation == "complex" else "real")


def stream_number(name: str) -> int:
    """Number of the random stream that belongs to a name; never 0, which is the stream of the sample itself."""
    return zlib.crc32(name.encode()) | 1 << 32


def theta_name(bound_field: BoundField) -> str:
    """What a batch calls the phase of a field: fields of the batch's own sample share one."""
    return f"{bound_field.name}_theta" if bound_field.stream else "theta"


def _bind_field(name: str, source: Source, member: str, recipe: Recipe, split: Split) -> BoundField:
    info = split.fields[member]
    if info.first_mismatch:
        raise DataError(
            f"{split.path}: field {member} is mixed: sample {info.first_mismatch}; separate them or build them alike"
        )
    if info.count < len(split):
        key = split.first_key_without(member)
        raise DataError(
            f"{split.path}: {len(split) - info.count} of {len(split)} samples lack field {member}"
            f"{f', the first is {key}' if key else ''}; leave them out or build the split again"
        )
    stream = 0
    if source.draw == "unpaired":
        scale_source = recipe.fields.get(source.scale_of or "", Source())
        # A field that shares the scale of another unpaired one must show the same sample.
        stream = stream_number(source.scale_of if source.scale_of and scale_source.draw == "unpaired" else name)
    spec = spec_of(member, info.dtype, info.channels, recipe.representation)
    return BoundField(name, member, stream, source.scale_of, info, spec, INTEGER_MAX.get(info.dtype, 1.0))


def _check_references(recipe: Recipe, bound: list[BoundField]) -> None:
    by_name = {bound_field.name: bound_field for bound_field in bound}
    for name, bound_field in by_name.items():
        target = bound_field.scale_of
        if target is not None and (target not in by_name or by_name[target].scale_of is not None):
            raise ConfigError(f"field {name}: scale_of {target} must name a field of the batch with its own scale")
    for name, like in recipe.normals.items():
        if like not in by_name and not (like in recipe.fields and recipe.fields[like].optional):
            raise ConfigError(f"normals {name}: no field {like} in the batch")
        if name in recipe.fields:
            raise ConfigError(f"normals {name}: a field has the same name")


def _check_geometry(recipe: Recipe, bound: list[BoundField], split: Split, one_size: bool) -> None:
    """Refuse images that are too small for the crop, or that do not fit into one batch without one."""
    for bound_field in bound:
        member, (height, width) = bound_field.member, bound_field.info.smallest
        if recipe.crop is not None and min(height, width) < recipe.crop:
            raise DataError(
                f"{split.path}: data.crop {recipe.crop} is larger than the smallest image of field {member} "
                f"({height} x {width}); set it to {min(height, width)} or less, or to null"
            )
        if recipe.crop is None and one_size and bound_field.info.shape is None:
            raise DataError(
                f"{split.path}: images of field {member} differ in size (the smallest are {height} x {width}): "
                f"set data.crop to {min(height, width)} or less"
            )
        if recipe.crop is None and recipe.rotate and height != width:
            raise ConfigError(
                f"data.rotate turns {height} x {width} images on their side: set data.crop, or data.rotate=false"
            )


def _check_equal_sizes(bound: list[BoundField], split: Split) -> None:
    """Refuse fields of one sample that differ in size; sizes that vary are compared when a batch is assembled."""
    for bound_field in bound:
        first, info = bound[0], bound_field.info
        if bound_field.stream != first.stream or info.shape is None or first.info.shape is None:
            continue
        if info.shape[:2] != first.info.shape[:2]:
            raise DataError(
                f"{split.path}: fields {first.member} {first.info.shape} and {bound_field.member} {info.shape} of one "
                "sample differ in size; build them with one size"
            )
