"""What of the measured images is independent: images of one patient resemble each other, and count once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Units:
    """Samples, and the independent unit that each belongs to: its group, or itself where no groups are known."""

    keys: tuple[str, ...]
    unit_of: tuple[int, ...]
    """Number of each sample's unit."""
    names: tuple[str, ...]
    """Of the units."""
    are_groups: bool
    """Whether the units are groups of the shards: patients, subjects or scenes."""
    note: str
    """How the units came about, for the reader of the comparison."""

    @property
    def count(self) -> int:
        """Number of units."""
        return len(self.names)

    @property
    def word(self) -> str:
        """What tables call the units."""
        return "groups" if self.are_groups else "images"

    def means(self, values_SN: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean of each unit's samples, (S, N) to (S, U); every unit then counts the same."""
        belongs_NU = np.array(self.unit_of)[:, None] == np.arange(self.count)
        means: NDArray[np.float64] = values_SN @ belongs_NU / belongs_NU.sum(axis=0)
        return means

    def subset(self, usable: NDArray[np.bool_]) -> "Units":
        """The units of some of the samples only."""
        chosen = np.flatnonzero(usable)
        left = sorted({self.unit_of[i] for i in chosen})
        return Units(
            tuple(self.keys[i] for i in chosen),
            tuple(left.index(self.unit_of[i]) for i in chosen),
            tuple(self.names[unit] for unit in left),
            self.are_groups,
            self.note,
        )


def units_of(keys: Sequence[str], groups: Mapping[str, str]) -> Units:
    """The independent units of samples, by the groups that the shards record.

    Args:
        keys: The samples.
        groups: Sample -> group; samples may be missing.
    """
    names = list(dict.fromkeys(groups[key] for key in keys if key in groups))
    if len(names) > 1 and all(key in groups for key in keys):
        unit_of = tuple(names.index(groups[key]) for key in keys)
        note = (
            f"{len(keys)} images, each of another group (patient, subject or scene)."
            if len(names) == len(keys)
            else f"{len(keys)} images of {len(names)} groups (patients, subjects or scenes), which each count once."
        )
        return Units(tuple(keys), unit_of, tuple(names), True, note)
    if len(names) == 1 and all(key in groups for key in keys):
        note = (
            f"All {len(keys)} images are of one group ({names[0]}): they are treated as independent, and the result "
            "speaks for this group only."
        )
    else:
        known = f"The shards name the group of {len(groups)} images only" if names else "The shards record no groups"
        note = f"{known}: all {len(keys)} images are treated as independent, though images of one patient are not."
    return Units(tuple(keys), tuple(range(len(keys))), tuple(keys), False, note)
