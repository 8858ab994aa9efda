"""Arrays in files that do not say what their axes mean: which are images, and how they are laid out."""

from pathlib import Path

import numpy as np

from quell.configs.errors import DataError
from quell.shards.image_files.geometry import Geometry, Layout
from quell.shards.image_files.image import Frame, StoredImage, Values
from quell.shards.listing.finite import check_finite

MAX_CHANNELS = 16
"""The last of three axes holds channels if it is no longer than this."""


def numbers(array: np.ndarray, where: str) -> np.ndarray:
    """The array in the byte order of the machine; compound numbers (re, im) become complex.

    Raises:
        DataError: The elements are no numbers.
    """
    parts = array.dtype.names
    if parts is not None:
        kinds = {array.dtype[name].kind for name in parts}
        if len(parts) != 2 or kinds != {"f"} or [name.lower()[0] for name in parts] != ["r", "i"]:
            raise DataError(f"{where}: holds records of {', '.join(parts)}; expected numbers")
        array = array[parts[0]] + 1j * array[parts[1]]
    if array.dtype.kind not in "buifc":
        raise DataError(f"{where}: holds {array.dtype}; expected numbers")
    if array.dtype.kind in "fc" and array.dtype.itemsize > (8 if array.dtype.kind == "f" else 16):
        return array.astype(np.float64 if array.dtype.kind == "f" else np.complex128)  # long double
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def stored_image(array: np.ndarray, path: Path, kind: str, name: str = "") -> StoredImage:
    """An array of a file with its axes made explicit.

    Args:
        array: (H, W); (H, W, C) with at most MAX_CHANNELS channels; (N, H, W); or (N, H, W, C).
        path: The file.
        kind: Its format.
        name: The name of the array in it, where it holds several.

    Raises:
        DataError: The array is none of these, or holds numbers that are not finite.
    """
    where = f"{path}: {name}" if name else str(path)
    array = numbers(array, where)
    if not 2 <= array.ndim <= 4 or 0 in array.shape:
        raise DataError(
            f"{where}: shape {array.shape} is no image; expected (H, W), (N, H, W), or either with channels last"
        )
    axes = axis_names(array.shape)
    check_finite(array, where, ",".join(axes))
    is_stack = axes[0] == "slice"
    pixels = array if is_stack else array[None]
    frames = tuple(Frame(path, number, f"N={number}" if is_stack else "") for number in range(len(pixels)))
    return StoredImage(
        pixels,
        path,
        kind,
        Values(array.dtype.name, bits_stored=8 * array.dtype.itemsize if array.dtype.kind == "u" else None),
        Geometry(Layout.of(array)),
        frames,
        (("N", len(array)),) if is_stack else (),
        name=name,
    )


def axis_names(shape: tuple[int, ...]) -> list[str]:
    """The names of the axes of an image or a stack of images: slice, row, column, channel."""
    has_channels = len(shape) == 4 or (len(shape) == 3 and shape[2] <= MAX_CHANNELS and shape[0] > 1)
    return ["slice", "row", "column", "channel"][
        0 if len(shape) == 4 or (len(shape) == 3 and not has_channels) else 1 : 4 if has_channels else 3
    ]
