"""Image files to arrays and back: npy, npz, h5, png, tif.

| read | as |
|---|---|
| npy, npz, h5 | as stored; the array of an npy file is called "", those of npz and h5 files keep their names |
| png | uint8 (H, W), (H, W, 3) or (H, W, 4); uint16 (H, W); palettes are converted to RGB |
| tif | as stored; several pages as (N, H, W) or (N, H, W, C) |

| written | as |
|---|---|
| npy, npz, h5, tif | the array unchanged, complex included |
| png | uint8, and uint16 without colour, unchanged; all else for viewing only: magnitude in 16 bits, colour in 8 bits |

A stack is written to numbered png files.
"""

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from configs.errors import DataError, MachineError

Arrays = dict[str, np.ndarray]
"""Arrays by name; the name is "" where a file holds one array without a name."""

CONTAINERS = (".npz", ".h5")
"""Formats that hold arrays by name."""

_SUFFIX_ALIASES = {".hdf5": ".h5", ".tiff": ".tif"}

_PNG_BIT_DEPTH_BYTE = 24
"""Offset of the bits per channel in a PNG file (its IHDR chunk)."""


def suffix_of(path: Path) -> str:
    """The canonical suffix of a file's format.

    Args:
        path: A file, which need not exist.

    Returns:
        .npy, .npz, .h5, .png or .tif.

    Raises:
        DataError: The format is not supported, or the path is a folder.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder: give the files in it")
    suffix = path.suffix.lower()
    suffix = _SUFFIX_ALIASES.get(suffix, suffix)
    if suffix not in _READERS:
        raise DataError(f"{path}: cannot read '{path.suffix}' files, only {', '.join(sorted(_READERS))}")
    return suffix


def read(path: Path) -> Arrays:
    """Read the images of a file.

    Args:
        path: A file in one of the formats above.

    Returns:
        Arrays of shape (H, W), (N, H, W), (H, W, C) or (N, H, W, C) by name; "" for the only one of npy, png and tif.

    Raises:
        DataError: The file is missing or unreadable, or holds something other than images of finite numbers.
    """
    reader = _READERS[suffix_of(path)]
    try:
        arrays = reader(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as {path.suffix} ({' '.join(str(error).split())})") from error
    if not arrays:
        raise DataError(f"{path}: holds no image")
    for name, array in arrays.items():
        _check(array, f"{path}{f': {name}' if name else ''}")
    return arrays


def write(path: Path, arrays: Mapping[str, np.ndarray], *, colour: bool = False, white: float = 1.0) -> list[Path]:
    """Write arrays in the format that the file's suffix names; folders are created.

    Args:
        path: The file. A stack becomes the png files `<stem>-0000.png`, `<stem>-0001.png`, ... beside it.
        arrays: Arrays by name; exactly one for npy, png and tif, whose name is ignored.
        colour: Whether the last axis holds channels.
        white: The value shown as white where float or complex arrays become a PNG.

    Returns:
        The files written.

    Raises:
        DataError: The format is not supported.
        MachineError: The file cannot be written.
    """
    suffix = suffix_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix in CONTAINERS:
            return [_replace(path, lambda temporary: _WRITERS[suffix](temporary, arrays, colour))]
        (array,) = arrays.values()
        if suffix != ".png":
            return [_replace(path, lambda temporary: _WRITERS[suffix](temporary, {"": array}, colour))]
        image = png_values(array, colour=colour, white=white)
        if image.ndim == (3 if colour else 2):
            return [_replace(path, Image.fromarray(image).save)]
        return [
            _replace(path.with_name(f"{path.stem}-{i:04d}.png"), Image.fromarray(page).save)
            for i, page in enumerate(image)
        ]
    except OSError as error:
        raise MachineError(f"cannot write {path} ({error.strerror or error}): choose another --output") from error


def png_values(array: np.ndarray, *, colour: bool, white: float) -> np.ndarray:
    """An array as a PNG can hold it: uint8, or uint16 where it has no colour."""
    if array.dtype == np.uint8 or (array.dtype == np.uint16 and not colour):
        return array
    real = np.abs(array) if np.iscomplexobj(array) else array
    brightness = np.clip(real.astype(np.float64) / (65535 if array.dtype == np.uint16 else white), 0, 1)
    return np.rint(brightness * 255).astype(np.uint8) if colour else np.rint(brightness * 65535).astype(np.uint16)


def _read_npz(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _read_h5(path: Path) -> Arrays:
    """The datasets of two and more dimensions, in groups as well."""
    import h5py  # slow to import

    arrays: Arrays = {}

    def collect(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim >= 2:
            arrays[name] = item[()]

    with h5py.File(path, "r") as file:
        file.visititems(collect)
    return arrays


def _read_png(path: Path) -> Arrays:
    with Image.open(path) as file:
        if file.format != "PNG":
            raise DataError(f"{path}: its content is {file.format}, not PNG")
        # Pillow reads 16-bit colour as 8 bits without saying so; only the header tells
        if file.mode in ("RGB", "RGBA") and path.read_bytes()[_PNG_BIT_DEPTH_BYTE] == 16:
            raise DataError(f"{path}: 16-bit colour PNGs would lose half their bits on reading; convert it to tif")
        if file.mode == "P":
            return {"": np.asarray(file.convert("RGB"))}
        array = np.asarray(file.convert("L") if file.mode == "1" else file)
    # older versions of Pillow read 16-bit grey as int32
    return {"": array.astype(np.uint16) if array.dtype.kind == "i" else array}


def _read_tif(path: Path) -> Arrays:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            array = series.asarray()
            # "S" is the axis of samples per pixel, which is not the last one in planar files
            return {"": np.moveaxis(array, series.axes.index("S"), -1) if "S" in series.axes else array}
    except (tifffile.TiffFileError, IndexError) as error:
        raise ValueError(str(error)) from error


def _write_npy(path: Path, arrays: Mapping[str, np.ndarray], colour: bool) -> None:
    np.save(path, arrays[""])


def _write_npz(path: Path, arrays: Mapping[str, np.ndarray], colour: bool) -> None:
    np.savez(path, **arrays)  # type: ignore[arg-type]  # its stub confuses names with allow_pickle


def _write_h5(path: Path, arrays: Mapping[str, np.ndarray], colour: bool) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def _write_tif(path: Path, arrays: Mapping[str, np.ndarray], colour: bool) -> None:
    import tifffile

    array = np.ascontiguousarray(arrays[""])
    tifffile.imwrite(path, array, photometric="rgb" if colour and array.shape[-1] in (3, 4) else "minisblack")


def _replace(path: Path, write_to: Callable[[Path], object]) -> Path:
    """Write a hidden file and rename it, so that the name never refers to a half-written image.

    The hidden file keeps the suffix: numpy and Pillow choose the format by it.
    """
    temporary = path.with_name(f".{path.name}")
    try:
        write_to(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _check(array: np.ndarray, source: str) -> None:
    """DataError unless the array is an image or a stack of images of finite numbers."""
    if array.dtype.kind not in "uifc":
        raise DataError(f"{source}: holds {array.dtype}, expected numbers")
    if not 2 <= array.ndim <= 4 or 0 in array.shape:
        raise DataError(
            f"{source}: expected (H, W), a stack (N, H, W), or either with channels last, got shape {array.shape}"
        )
    if array.dtype.kind in "fc" and not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise DataError(f"{source}: holds {count} NaN or infinite values; repair the image first")


_READERS: dict[str, Callable[[Path], Arrays]] = {
    ".npy": lambda path: {"": np.load(path, allow_pickle=False)},
    ".npz": _read_npz,
    ".h5": _read_h5,
    ".png": _read_png,
    ".tif": _read_tif,
}

_WRITERS: dict[str, Callable[[Path, Mapping[str, np.ndarray], bool], None]] = {
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".h5": _write_h5,
    ".tif": _write_tif,
}
