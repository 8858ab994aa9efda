"""What each field of a batch looks like to a network, given what the shards hold."""

from dataclasses import dataclass, replace

from configs.errors import DataError
from configs.fields import FieldSpec, Needs, Source
from configs.schema import DataConfig
from configs.support.suggestions import did_you_mean
from shards.reading.recipe import Recipe, bind, spec_of
from shards.reading.split import Split


@dataclass(frozen=True)
class ImageKind:
    """What the images of a field are, as stored; a checkpoint says it of every field it was trained on."""

    dtype: str
    """numpy's name."""
    channels: int
    """Of one stored image; a complex image has one."""

    @property
    def is_complex(self) -> bool:
        """Whether the images have an imaginary part."""
        return self.dtype.startswith("complex")

    @property
    def words(self) -> str:
        """For people: complex, grey, colour, or so many channels."""
        return "complex" if self.is_complex else {1: "grey", 3: "colour"}.get(self.channels, f"{self.channels}-channel")


def present(needs: Needs, data: DataConfig, shards: Split) -> dict[str, Source]:
    """The fields of a batch on these shards: needed ones, and optional ones that the shards hold.

    Raises DataError naming every needed member that is missing.
    """
    unknown = sorted(set(data.fields) - set(needs.fields))
    if unknown:
        raise DataError(
            f"data.fields.{unknown[0]} is no field of this method, which reads {', '.join(needs.fields)}; "
            f"{did_you_mean(unknown[0], list(needs.fields))}"
        )
    members = needs.members(data.fields)
    found = {
        name: replace(source, member=members[name])
        for name, source in needs.fields.items()
        if members[name] in shards.fields
    }
    missing = [name for name, source in needs.fields.items() if name not in found and not source.optional]
    if missing:
        lacking = ", ".join(f"{name} (member '{members[name]}')" for name in missing)
        changes = " ".join(f"data.fields.{name}=NAME" for name in missing)
        raise DataError(
            f"{shards.path} does not hold {lacking}, which this method needs; it holds "
            f"{', '.join(sorted(shards.fields))}: choose among them with {changes}, or choose other data"
        )
    return found


def field_specs(needs: Needs, data: DataConfig, shards: Split) -> dict[str, FieldSpec]:
    """Channels and kind of each batch field, training's and evaluation's."""
    recipe = Recipe(fields=present(needs, data, shards), representation=data.representation)
    return {field.name: field.spec for field in bind(recipe, shards, one_size=False)}


def image_kinds(needs: Needs, data: DataConfig, shards: Split) -> dict[str, ImageKind]:
    """What the shards hold for each batch field, training's and evaluation's."""
    stored = {name: shards.fields[source.member] for name, source in present(needs, data, shards).items()}
    return {name: ImageKind(info.dtype, info.channels) for name, info in stored.items()}


def specs_of(kinds: dict[str, ImageKind], representation: str) -> dict[str, FieldSpec]:
    """Channels and kind of each batch field whose stored images are known."""
    return {name: spec_of(name, kind.dtype, kind.channels, representation) for name, kind in kinds.items()}
