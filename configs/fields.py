"""What a method asks of the data, without naming files: fields, random numbers, and what each field holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

DRAWS = 2
"""Version of the random draws of new runs. Checkpoints record it, so that a run continues with the numbers it began
with: 1, of runs up to version 0.3, by numpy on the host; 2, by SplitMix64 on the device of the batch."""


@dataclass(frozen=True)
class Source:
    """Where a batch field comes from, and when it is read."""

    member: str = ""
    """Member of the shard (`pd` for `KEY.pd.npy`); empty for the field's own name. The name of another field stands for
    that field's member, whatever it is called in the data (`Needs.members`)."""
    draw: Literal["same", "unpaired"] = "same"
    """same: the batch's own sample, with the crop, flip, rotation and phase that all such fields share; unpaired: an
    unrelated sample with a geometry of its own, for unpaired training."""
    scale_of: str | None = None
    """Field whose normalisation this one shares, as a clean image shares its noisy image's."""
    optional: bool = False
    """Leave the field out of the batch if the shards do not hold it."""
    evaluation: bool = False
    """Read the field in evaluation only."""


WINDOW = ("top", "left", "height", "width", "mirror_rows", "mirror_columns", "quarter_turns")
"""Columns of a batch's `window`: the crop's top left pixel in the stored image, the height and width of that image, and
the orientation that was then given to the crop (0 or 1, 0 or 1, 0 to 3 counterclockwise), in this order."""


@dataclass(frozen=True)
class Needs:
    """What a batch must hold for a method."""

    fields: dict[str, Source]
    normals: dict[str, str] = field(default_factory=dict)
    """Standard-normal tensors by name -> the field whose shape they have. They are drawn per sample and epoch, so
    that they do not depend on rank, worker or world size."""
    margins: dict[str, int] = field(default_factory=dict)
    """Name of a standard-normal tensor -> rows and columns that it has beyond its field, below and to the right."""
    sizes: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Name of a standard-normal tensor -> channels, rows and columns that are enough, instead of those of its field;
    with draws of version 1 it has those of its field."""
    seeds: bool = False
    """Whether the batch holds `seeds`, int64 (N, 2), from which a method draws numbers of other distributions
    (pipelines/common/random_numbers/distributions.py)."""
    windows: bool = False
    """Whether the batch says which window of its image each crop is, and how it was turned: `window`, int64 (N, 7) with
    the columns `WINDOW`."""

    def members(self, renamed: Mapping[str, str]) -> dict[str, str]:
        """Field -> member of the shards, given the user's own names (`renamed`, data.fields).

        A field that shows unrelated samples of another field follows that field's renaming, unless it has its own.
        """
        named = {name: renamed.get(name) or source.member or name for name, source in self.fields.items()}
        return {name: named.get(member, member) if name not in renamed else member for name, member in named.items()}


Layout = Literal["real", "ri", "complex"]
"""What the channels of a tensor hold: real values, the real and the imaginary part (two channels), or complex64."""


@dataclass(frozen=True)
class FieldSpec:
    """What a batch field looks like to a network: a tensor (N, channels, H, W) of a layout."""

    channels: int
    layout: Layout = "real"

    @property
    def is_complex(self) -> bool:
        """Whether the tensor is complex64."""
        return self.layout == "complex"
