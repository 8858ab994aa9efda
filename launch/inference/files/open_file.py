"""Opening a path as what it is: a stored file, a TIFF too large for memory, a Zarr image."""

from pathlib import Path

import numpy as np

from quell.configs.errors import DataError
from quell.launch.inference.files.large_tiff import LargeTiff
from quell.launch.inference.files.opened import OpenedFile
from quell.launch.inference.files.stored_file import StoredFile
from quell.launch.inference.files.zarr_image import ZarrImage
from quell.launch.inference.writers.zarr_copies import is_zarr
from quell.shards.image_files.read import suffix_of

LARGE_VALUES = 1 << 24
"""TIFF files of more values than this are read in parts."""


def open_file(path: Path, channels: int, slice_axis: int | None = None) -> OpenedFile:
    """Open a file for restoring.

    Args:
        path: A file, or a folder that is a Zarr image.
        channels: Of the images that the run was trained on.
        slice_axis: Of the slices that it was trained on, for NIfTI; see StoredFile.

    Raises:
        DataError: There is no such file, or it is damaged or not supported.
        MachineError: The library that reads the format is not installed.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if is_zarr(path):
        return ZarrImage(path)
    if path.is_dir():
        raise DataError(f"{path}: a folder that is no image")
    if suffix_of(path) in (".tif", ".tiff") and _values_in(path) > LARGE_VALUES and LargeTiff.suits(path):
        return LargeTiff(path)
    return StoredFile(path, channels, slice_axis)


def is_without_image(error: Exception) -> bool:
    """Whether opening failed because a DICOM file is no image: a report, a presentation state, a directory."""
    try:
        from quell.shards.image_files.dicom.headers import NoImageError
    except ImportError:
        return False
    return isinstance(error, NoImageError)


def _values_in(path: Path) -> int:
    """Pixels times samples of the first series of a TIFF; 0 where it cannot be read."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            return int(np.prod(file.series[0].shape))
    except Exception:  # the reader says what is wrong
        return 0
