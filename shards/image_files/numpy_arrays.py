"""NumPy files, .npy and .npz, in either byte order and either order of axes in memory."""

from pathlib import Path

import numpy as np

from quell.configs.errors import DataError
from quell.shards.image_files.arrays import numbers, stored_image
from quell.shards.image_files.errors import check_regular, reading
from quell.shards.image_files.image import StoredImage
from quell.shards.listing.left_out import leave_out

PROBLEM = "cannot be read as an array"


def read(path: Path) -> list[StoredImage]:
    """Read all arrays of a file; in .npz files, single numbers and lists of numbers are left out.

    Raises:
        DataError: The file is damaged, holds no image, or an array of pickled objects.
    """
    if path.suffix.lower() == ".npz":
        arrays = {name: load_array(path, name) for name in names_in(path)}
        images = [stored_image(array, path, "npz", name) for name, array in arrays.items() if array.ndim >= 2]
        if not images:
            raise DataError(f"{path}: holds no image; its arrays are {', '.join(arrays)}")
        for name, array in arrays.items():
            if array.ndim < 2:
                leave_out("array without an image", f"{path}: {name}", f"shape {array.shape}")
        return images
    return [stored_image(load_array(path), path, "npy")]


def names_in(path: Path) -> list[str]:
    """The names of the arrays in a .npz file. Raises DataError where there are none."""
    check_regular(path)
    with reading(path, PROBLEM), open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        names = list(archive.files)
    if not names:
        raise DataError(f"{path}: holds no arrays")
    if len(set(names)) < len(names):
        raise DataError(f"{path}: holds two arrays of one name ({', '.join(sorted(names))})")
    return names


def load_array(path: Path, name: str = "", *, mapped: bool = False) -> np.ndarray:
    """Load one array as it is stored, in the byte order of the machine unless it is mapped.

    Args:
        path: A .npy file, or a .npz file.
        name: Name of the array in a .npz file; may be omitted where there is only one.
        mapped: Map a .npy file into memory instead of reading it.

    Raises:
        DataError: It cannot be read, there is no such array, or its elements are no numbers.
    """
    where = f"{path}:{name}" if name else str(path)
    check_regular(path)
    with reading(Path(where), PROBLEM):
        if path.suffix.lower() != ".npz":
            array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
            if not isinstance(array, np.ndarray):
                raise DataError(f"{where}: its content is a .npz archive; rename it")
            return _map_checked(array, where) if mapped else numbers(array, where)
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            if not name and len(archive.files) > 1:
                raise DataError(f"{path}: holds the arrays {', '.join(archive.files)}; name one, as in FILE.npz:KEY")
            return numbers(archive[name or archive.files[0]], where)


def _map_checked(array: np.ndarray, where: str) -> np.ndarray:
    numbers(array[:0], where)
    return array
