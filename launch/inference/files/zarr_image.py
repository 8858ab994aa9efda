"""Zarr arrays and OME-Zarr images, read and written by rows of chunks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from quell.configs.errors import DataError
from quell.launch.inference.files.opened import ArrayFacts, OpenedFile, PixelRows, Result
from quell.launch.inference.writers.zarr_copies import open_levels, write_zarr

MIN_DIMENSIONS = 2


class ZarrImage(OpenedFile):
    """A Zarr array whose last two axes are rows and columns, or the OME image of a group. Needs zarr."""

    format = "zarr"
    is_large = True

    def __init__(self, path: Path) -> None:
        """Open a folder without reading its pixels. Raises DataError where it is no image."""
        super().__init__(path)
        self._array: Any = open_levels(path)[0]
        shape, dtype = tuple(int(side) for side in self._array.shape), np.dtype(self._array.dtype)
        if len(shape) < MIN_DIMENSIONS or 0 in shape or dtype.kind not in "uifc":
            raise DataError(f"{path}: expected an array of numbers with rows and columns last, got {dtype} of {shape}")
        self._leading = shape[:-2]
        images = int(np.prod(self._leading))
        self.facts[""] = ArrayFacts((images, *shape[-2:]) if self._leading else shape, dtype.newbyteorder("="))

    def read(self, name: str) -> np.ndarray:
        """All pixels at once."""
        array = np.asarray(self._array[...])
        return array.astype(self.facts[name].dtype).reshape(self.facts[name].shape)

    def rows(self, name: str, stack_shape: tuple[int, int, int, int]) -> PixelRows:
        """The pixels, decoded as they are asked for."""
        return _Rows(self._array, self._leading, self.facts[name])

    def write(self, target: Path, results: Mapping[str, Result], description: str) -> list[str]:
        """Write a copy of the folder with other pixels."""
        (result,) = results.values()
        dtype = np.dtype(self._array.dtype)
        width = int(self._array.shape[-1])

        def rows(plane: int, top: int, bottom: int) -> np.ndarray:
            block = result.pixels.rows(plane, top, bottom).reshape(bottom - top, width)
            if dtype.kind in "iu" and block.dtype.kind == "f":
                block = np.clip(np.rint(block.astype(np.float64)), np.iinfo(dtype).min, np.iinfo(dtype).max)
            return block.astype(dtype)

        return write_zarr(self.path, target, rows)


class _Rows:
    """The pixels of an open array."""

    def __init__(self, array: Any, leading: tuple[int, ...], facts: ArrayFacts) -> None:
        self.shape, self.dtype = facts.shape, facts.dtype
        self._array, self._leading = array, leading

    def rows(self, image: int, top: int, bottom: int) -> np.ndarray:
        """Rows of one image: (rows, W)."""
        place = np.unravel_index(image, self._leading) if self._leading else ()
        where = (*(int(i) for i in place), slice(top, bottom))
        return np.asarray(self._array[where], self.dtype)
