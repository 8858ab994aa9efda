"""An array that a program gives, treated as a .npy file that holds it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from quell.configs.errors import DataError
from quell.launch.inference.files.opened import ArrayFacts, ArrayRows, OpenedFile, PixelRows, Result
from quell.launch.inference.files.stored_file import in_dtype_of
from quell.shards.image_files.arrays import stored_image


class GivenArray(OpenedFile):
    """One array in memory."""

    format = "npy"

    def __init__(self, array: np.ndarray, name: str) -> None:
        """Check an array as a file that holds it would be.

        Args:
            array: (H, W), (H, W, C), (N, H, W) or (N, H, W, C).
            name: What messages call it; arrays that are restored together have different names.

        Raises:
            DataError: It is no image, or holds NaN or Inf.
        """
        super().__init__(Path(name))
        self._image = stored_image(array, self.path, self.format)
        self.facts[""] = ArrayFacts(self._image.plain.shape, self._image.plain.dtype)

    def read(self, name: str) -> np.ndarray:
        """The array."""
        return self._image.plain

    def rows(self, name: str, stack_shape: tuple[int, int, int, int]) -> PixelRows:
        """The array, to be read in parts."""
        return ArrayRows(self.read(name), stack_shape)

    def as_stored(self, name: str, values: np.ndarray) -> np.ndarray:
        """Restored values in the integer type, or the half precision, of the array."""
        return in_dtype_of(values, self._image.values.stored_dtype)

    def write(self, target: Path, results: Mapping[str, Result], description: str) -> list[str]:
        """Refused with DataError: an array has no format."""
        raise DataError(f"{self.path}: an array has no file format: choose npy, png or tif")
