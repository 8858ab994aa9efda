"""Which fields a batch has on given shards, and what each of them looks like to a network."""

from dataclasses import dataclass, replace

from quell.configs.errors import DataError
from quell.configs.fields import FieldSpec, Needs, Source
from quell.configs.schema import DataConfig
from quell.configs.support.suggestions import did_you_mean
from quell.shards.reading.recipe import Recipe, bind, spec_of
from quell.shards.reading.split import Split


@dataclass(frozen=True)
class ImageKind:
    """What kind of images a field holds, as stored; every checkpoint records it for the fields it was trained on."""

    dtype: str
    """numpy's name."""
    channels: int
    """Channels of a stored image; a complex image has one."""

    @property
    def is_complex(self) -> bool:
        """Whether the images have an imaginary part."""
        return self.dtype.startswith("complex")

    @property
    def words(self) -> str:
        """For messages: complex, grey, colour, or N-channel."""
        return "complex" if self.is_complex else {1: "grey", 3: "colour"}.get(self.channels, f"{self.channels}-channel")


def available_fields(needs: Needs, data: DataConfig, shards: Split) -> dict[str, Source]:
    """The fields of a batch on these shards: all required ones, and those optional ones that the shards hold.

    Args:
        needs: What the method reads.
        data: `fields` says which members of the shards hold them, where names differ.
        shards: Of any split.

    Returns:
        Each field's source, with the name of its member filled in.

    Raises:
        DataError: Required members are missing (all are named), or `data.fields` names a field that the method does not
            read.
    """
    unknown = sorted(set(data.fields) - set(needs.fields))
    if unknown:
        raise DataError(
            f"data.fields.{unknown[0]}: the method has no such field, it reads {', '.join(needs.fields)}; "
            f"{did_you_mean(unknown[0], list(needs.fields))}"
        )
    members = needs.members(data.fields)
    available = {
        name: replace(source, member=members[name])
        for name, source in needs.fields.items()
        if members[name] in shards.fields
    }
    missing = [name for name, source in needs.fields.items() if name not in available and not source.optional]
    if missing:
        described = ", ".join(f"{name} (member '{members[name]}')" for name in missing)
        changes = " ".join(f"data.fields.{name}=NAME" for name in missing)
        raise DataError(
            f"{shards.path} does not hold {described}, which this method needs; it holds "
            f"{', '.join(sorted(shards.fields))}: choose among them with {changes}, or choose other data"
        )
    return available


def field_specs(needs: Needs, data: DataConfig, shards: Split) -> dict[str, FieldSpec]:
    """What each available field, for training or evaluation, looks like to a network."""
    recipe = Recipe(fields=available_fields(needs, data, shards), representation=data.representation)
    return {field.name: field.spec for field in bind(recipe, shards, one_size=False)}


def image_kinds(needs: Needs, data: DataConfig, shards: Split) -> dict[str, ImageKind]:
    """What kind of images the shards hold for each available field."""
    stored = {name: shards.fields[source.member] for name, source in available_fields(needs, data, shards).items()}
    return {name: ImageKind(info.dtype, info.channels) for name, info in stored.items()}


def specs_of_kinds(kinds: dict[str, ImageKind], representation: str) -> dict[str, FieldSpec]:
    """What fields look like to a network whose stored images are known, without any shards."""
    return {name: spec_of(name, kind.dtype, kind.channels, representation) for name, kind in kinds.items()}


def resized_to(data: DataConfig) -> tuple[int, int] | None:
    """Height and width of `data.resize`, whose single number is both."""
    return (data.resize, data.resize) if isinstance(data.resize, int) else data.resize
