"""What a method asks of the data, said without naming a file: fields, noise draws, and what each field holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Source:
    """Where one batch field comes from.

    `member` is the name inside the shard (`pd` for `key.pd.npy`); empty means the field's own name. A member with the
    name of another field is that field's, whatever the data call it (`Needs.members`).
    `draw`: fields with "same" show the same sample through the same crop, flip, rotation and phase; a field with
    "unpaired" shows an unrelated sample, with a geometry of its own (unpaired methods).
    `scale_of` names the field whose normalisation this one shares (a clean image shares its noisy one's).
    An `optional` field is left out of the batch when the shards do not hold it; one for `evaluation` is not read in
    training.
    """

    member: str = ""
    draw: Literal["same", "unpaired"] = "same"
    scale_of: str | None = None
    optional: bool = False
    evaluation: bool = False


@dataclass(frozen=True)
class Needs:
    """What one batch must hold for a method.

    `normals` maps the name of a standard-normal tensor to the field whose shape it takes; it is drawn per sample by the
    loader, so that noise does not depend on rank, worker or world size.
    """

    fields: dict[str, Source]
    normals: dict[str, str] = field(default_factory=dict)

    def members(self, renamed: Mapping[str, str]) -> dict[str, str]:
        """Field -> its name inside the shards, where `renamed` (data.fields) says which names the data use.

        A field that shows an unrelated sample of another one follows that one's renaming, unless it has its own.
        """
        named = {name: renamed.get(name) or source.member or name for name, source in self.fields.items()}
        return {name: named.get(member, member) if name not in renamed else member for name, member in named.items()}


Layout = Literal["real", "ri", "complex"]
"""How a tensor holds its values: real channels, two channels with the real and the imaginary part, or complex64."""


@dataclass(frozen=True)
class FieldSpec:
    """What a batch field looks like to a network: the channels of the NCHW tensor and what they hold."""

    channels: int
    layout: Layout = "real"

    @property
    def is_complex(self) -> bool:
        """Whether the tensor is complex64."""
        return self.layout == "complex"
