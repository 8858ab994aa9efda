"""What every opened file offers: its arrays, read as the builders read them, and a copy with other pixels."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from quell.shards.image_files.read import suffix_of


class PixelRows(Protocol):
    """An array that is read in parts."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W), (N, H, W), (H, W, C) or (N, H, W, C)."""

    @property
    def dtype(self) -> np.dtype:
        """Of what is read."""

    def rows(self, image: int, top: int, bottom: int) -> np.ndarray:
        """Rows of one image: (rows, W), or (rows, W, C)."""


class ArrayRows:
    """An array in memory, as PixelRows."""

    def __init__(self, array: np.ndarray, stack_shape: tuple[int, int, int, int]) -> None:
        """Take an array and its shape as a stack, (N, H, W, C)."""
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self._stack = array.reshape(stack_shape)

    def rows(self, image: int, top: int, bottom: int) -> np.ndarray:
        """Rows of one image, (rows, W, C)."""
        return self._stack[image, top:bottom]


class ArrayFacts(NamedTuple):
    """What is known of an array before it is read."""

    shape: tuple[int, ...]
    """(H, W), (N, H, W), (H, W, C) or (N, H, W, C)."""
    dtype: np.dtype
    """Of what reading gives."""
    is_colour: bool = False
    """Whether the file says that the last axis holds colours."""


class Result(NamedTuple):
    """Restored pixels, and the array of the source that they replace."""

    of: str
    """Name of the array."""
    pixels: PixelRows
    """In the units in which the array was read."""


class OpenedFile(ABC):
    """A file, or a folder that is one image, whose arrays can be restored."""

    format: str
    """As `StoredImage.format`, or zarr."""
    has_names: bool = False
    """Whether it holds arrays by name (npz, h5), and its copy the results of several jobs."""
    series: object = None
    """What the files of one volume share, each of which holds a slice of it; None where the file is the volume."""
    is_large: bool = False
    """Whether it is read and written in parts and never as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts: dict[str, ArrayFacts] = {}
        """Name -> what is known of the array; "" where the file holds one without a name."""
        self.notes: list[str] = []
        """What the user should know about reading it, one sentence each."""

    @abstractmethod
    def read(self, name: str) -> np.ndarray:
        """An array, in the shape of its facts."""

    @abstractmethod
    def rows(self, name: str, stack_shape: tuple[int, int, int, int]) -> PixelRows:
        """An array to be read in parts."""

    @abstractmethod
    def write(self, target: Path, results: Mapping[str, Result], description: str) -> list[str]:
        """Write a copy of the file in which arrays have other pixels.

        Args:
            target: Where to write.
            results: Name in the copy -> restored pixels.
            description: What was done, for formats that record it.

        Returns:
            What could not be kept, one sentence each.
        """

    def as_stored(self, name: str, values: np.ndarray) -> np.ndarray:
        """Restored values in the dtype in which a copy of the file holds them, where this is the dtype of an array."""
        return values

    def release(self) -> None:  # noqa: B027  files that are read in parts keep nothing
        """Forget pixels that are kept in memory."""

    def check_writable(self) -> None:  # noqa: B027  most formats have nothing to check
        """Raise DataError where a copy could not hold what the file holds."""


def split_name(path: Path) -> tuple[str, str]:
    """A file's name without its suffix, and the suffix as written: `.nii.gz` whole, "" for DICOM files without one."""
    suffix = suffix_of(path)
    if suffix and path.name.lower().endswith(suffix):
        return path.name[: -len(suffix)], path.name[-len(suffix) :]
    return (path.name, "") if suffix == ".dcm" else (path.stem, path.suffix)
