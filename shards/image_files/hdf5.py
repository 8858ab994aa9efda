"""HDF5: arrays of any byte order in groups, complex ones as compounds too; published files of fastMRI."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from quell.configs.errors import DataError
from quell.shards.image_files import fastmri
from quell.shards.image_files.arrays import numbers, stored_image
from quell.shards.image_files.errors import reading
from quell.shards.image_files.image import StoredImage
from quell.shards.listing.left_out import leave_out


def read(path: Path) -> list[StoredImage]:
    """Read the images of a file: every data set with two or more axes, under its name with the groups above it.

    Of a file in the layout of fastMRI only the reconstruction is read, or else magnitudes are computed from k-space.

    Raises:
        DataError: The file is damaged, holds no image, or an array of something other than numbers.
    """
    if fastmri.is_fastmri(path):
        return [stored_image(fastmri.read_magnitude(path), path, "hdf5", fastmri.image_name(path))]
    arrays = read_arrays(path)
    images = {name: array for name, array in arrays.items() if array.ndim >= 2}
    for name in arrays.keys() - images.keys():
        leave_out("data set without an image", f"{path}: {name}", f"shape {arrays[name].shape}")
    if not images:
        held = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "nothing"
        raise DataError(f"{path}: holds no image; it holds {held}")
    return [stored_image(array, path, "hdf5", name) for name, array in images.items()]


def read_arrays(path: Path, group: str = "/", *, recursive: bool = True) -> dict[str, np.ndarray]:
    """Read all data sets of a file, or of one group of it, that hold numbers; texts and single numbers are left out.

    Everything is read before anything is returned: a caller that fails half-way leaves no file open.

    Args:
        path: An HDF5 file.
        group: The group to read.
        recursive: Whether to read the groups inside it too.

    Returns:
        Name, with the groups below `group` in front of it -> array.

    Raises:
        DataError: The file is damaged, or a link in it leads nowhere.
    """
    with reading(path, "not a readable HDF5 file"), h5py.File(path, "r") as file:
        sets = [(name, data) for name, data in _data_sets(file[group], "", path, set()) if recursive or "/" not in name]
        for name, data in sets:
            if not _may_be_image(data):
                leave_out("data set without an image", f"{path}: {name}", f"shape {data.shape} of {data.dtype}")
        return {name: np.asarray(data[()]) for name, data in sets if _may_be_image(data)}


def _may_be_image(data: h5py.Dataset) -> bool:
    """Whether a data set holds numbers in an array, rather than a text, a reference or nothing."""
    return data.shape is not None and (data.dtype.kind in "buifc" or data.dtype.names is not None) and data.ndim > 0


def _data_sets(group: h5py.Group, prefix: str, path: Path, visited: set[object]) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every data set below a group, each once."""
    for name in list(group):
        try:
            item = group[name]
        except (KeyError, OSError) as error:
            raise DataError(f"{path}: {prefix}{name}: a link whose target is missing") from error
        address = h5py.h5o.get_info(item.id)
        mark = (address.fileno, address.addr)
        if isinstance(item, h5py.Dataset):
            yield f"{prefix}{name}", item
        elif isinstance(item, h5py.Group) and mark not in visited:
            visited.add(mark)
            yield from _data_sets(item, f"{prefix}{name}/", path, visited)


def as_slice(array: np.ndarray, where: str) -> np.ndarray:
    """One slice, complex64 or float32 (H, W), from an array that may be stored in other ways.

    Args:
        array: Complex or real (H, W); (1, H, W); or real (H, W, 2) with the real and the imaginary part.
        where: File and name, for messages.

    Raises:
        DataError: The array is none of these.
    """
    array = numbers(array, where)
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[2] == 2 and array.dtype.kind == "f":
        array = array[..., 0] + 1j * array[..., 1]
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind == "b":
        raise DataError(
            f"{where}: expected one slice (H, W), got shape {array.shape} of {array.dtype}; remove it from the file"
        )
    return array.astype(np.complex64 if array.dtype.kind == "c" else np.float32)
