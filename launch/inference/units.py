"""The units in which a builder of shards stored files, applied to files that are to be restored.

Medical volumes have no common scale, so their builders divide each by a number of its own. A run trained on such shards
expects the same of the files it restores; what it returns is multiplied by that number again.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from quell.shards.sources.common.contrast_slices import KEPT_UNITS, PERCENTILE
from quell.shards.sources.common.contrast_slices import UNITS as PERCENTILE_UNITS

_VOLUMES = ("dicom", "nifti")


class Units(NamedTuple):
    """Stored value = (file's value - offset) / scale."""

    offset: float = 0.0
    scale: float = 1.0
    is_float: bool = False
    """Whether integers are read as the numbers they are, and not as fractions of their maximum."""

    @property
    def is_identity(self) -> bool:
        """Whether the file's values are the stored ones."""
        return self.offset == 0.0 and self.scale == 1.0 and not self.is_float

    def to_training(self, array: np.ndarray) -> np.ndarray:
        """The file's values in the units of the training images, float32 or complex64; unchanged for the identity."""
        if self.is_identity:
            return array
        dtype = np.complex64 if array.dtype.kind == "c" else np.float32
        return ((array.astype(dtype) - dtype(self.offset)) / dtype(self.scale)).astype(dtype)

    def to_file(self, array: np.ndarray) -> np.ndarray:
        """The reverse of `to_training`, in double precision."""
        if self.is_identity:
            return array
        wide = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
        return wide * self.scale + self.offset


Rule = Callable[[np.ndarray], Units]
"""Measures a volume."""


def rule_for(notes: Mapping[str, object], file_format: str, array_name: str) -> Rule | None:
    """How a builder would have scaled a file; None where it stores values as they are.

    Args:
        notes: The builder's notes on the training split.
        file_format: Of the file to restore.
        array_name: Name of the array in it.
    """
    if notes.get("units") == PERCENTILE_UNITS and file_format in _VOLUMES:
        return _by_percentile
    if notes.get("units") == KEPT_UNITS and file_format in _VOLUMES:
        return lambda volume: Units(is_float=True)
    if notes.get("source") == "fastmri" and "units" in notes and file_format == "hdf5" and _is_fastmri(array_name):
        return _by_maximum
    window = notes.get("window_hu")
    if isinstance(window, list | tuple) and file_format in _VOLUMES:
        low, high = (float(bound) for bound in window)
        return lambda volume: Units(low, high - low)
    return None


def _is_fastmri(name: str) -> bool:
    return name.startswith("reconstruction") or name == "kspace"


def _by_percentile(volume: np.ndarray) -> Units:
    return Units(0.0, float(np.percentile(np.abs(volume), PERCENTILE)) or 1.0)


def _by_maximum(volume: np.ndarray) -> Units:
    return Units(0.0, float(np.abs(volume).max()) or 1.0)
