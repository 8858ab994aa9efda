"""What a source gives to the builder: work items, and the samples that loading an item yields."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Sample:
    """One sample before it is encoded."""

    key: str
    """Unique within the split; without dots, which end a key in a tar."""
    members: Mapping[str, np.ndarray | bytes]
    """Member name without the key ('pd.npy', 'noisy.png') -> an array to be encoded, or the content of a file."""
    metadata: Mapping[str, object] = field(default_factory=dict)
    """Stored in the member `json`, together with the group of the work item."""
    suggested_range: tuple[float, str] | None = None
    """The data range that the files themselves state, in the units in which training reads the fields (8- and 16-bit
    images are scaled to [0, 1]), and what states it, such as '12 bits stored'. For `--data-range auto`."""

    @classmethod
    def of_arrays(
        cls,
        key: str,
        fields: Mapping[str, np.ndarray],
        *,
        suggested_range: tuple[float, str] | None = None,
        **metadata: object,
    ) -> "Sample":
        """A sample whose fields are stored as .npy arrays."""
        return cls(key, {f"{name}.npy": image for name, image in fields.items()}, metadata, suggested_range)

    @classmethod
    def of_files(cls, key: str, files: Mapping[str, Path]) -> "Sample":
        """A sample whose fields are image files (png, jpg, tif), stored byte for byte."""
        return cls(key, {f"{name}{path.suffix.lower()}": path.read_bytes() for name, path in files.items()})


@dataclass(frozen=True)
class WorkItem:
    """What one worker reads at a time: usually a file, a pair of files or a volume."""

    key: str
    """Unique within the split; names the item in messages."""
    group: str
    """Patient, subject or scene: the items of a group are always in the same split."""
    load: Callable[[], list[Sample]]
    """Reads the item. It has to return the same samples every time, since an interrupted build loads it again."""
    files: tuple[Path, ...] = ()
    """The files it is read from. Where the size of one changes, a build is not resumed but starts over."""
