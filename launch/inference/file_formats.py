"""Image files as arrays and back: npy, npz, h5, png, tif.

| read | as |
|---|---|
| npy, npz, h5 | as stored; the array of an npy file is called "", those of npz and h5 keep their names |
| png | uint8 (H, W), (H, W, 3) or (H, W, 4); uint16 (H, W); palettes become RGB |
| tif | as stored, pages as (N, H, W) or (N, H, W, C) |

| written | as |
|---|---|
| npy, npz, h5, tif | the array unchanged, complex included |
| png | uint8 and grey uint16 unchanged; others for looking at only: magnitude, `top` is white, 16 bits, colour 8 bits |

A stack becomes numbered png files.
"""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from configs.errors import DataError, MachineError

Arrays = dict[str, np.ndarray]

CONTAINERS = (".npz", ".h5")
"""Files that hold arrays by name."""

_SPELLINGS = {".hdf5": ".h5", ".tiff": ".tif"}

_PNG_DEPTH_AT = 24
"""Byte of a PNG file that says the bits per channel."""


def suffix_of(path: Path) -> str:
    """The format's usual file ending: .npy, .npz, .h5, .png, .tif; DataError for others and for folders."""
    if path.is_dir():
        raise DataError(f"{path}: is a folder; give the files in it")
    suffix = path.suffix.lower()
    suffix = _SPELLINGS.get(suffix, suffix)
    if suffix not in _READERS:
        raise DataError(f"{path}: cannot read '{path.suffix}' files, only {', '.join(sorted(_READERS))}")
    return suffix


def read(path: Path) -> Arrays:
    """The images in a file by name; "" for the only one of npy, png and tif.

    Raises DataError when the file is missing, unreadable, or holds something else than finite numbers in images.
    """
    reader = _READERS[suffix_of(path)]
    try:
        arrays = reader(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except DataError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as {path.suffix} ({' '.join(str(error).split())})") from error
    if not arrays:
        raise DataError(f"{path}: holds no image")
    for name, array in arrays.items():
        _check(array, f"{path}{f': {name}' if name else ''}")
    return arrays


def write(path: Path, arrays: Arrays, *, colour: bool = False, top: float = 1.0) -> list[Path]:
    """Write arrays in the format the file name says; the files written.

    `colour`: the last axis holds channels; `top`: the value shown white when floats become a PNG.
    Raises MachineError when the place cannot be written.
    """
    suffix = suffix_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix in CONTAINERS:
            return [_replace(path, lambda hidden: _WRITERS[suffix](hidden, arrays, colour))]
        (array,) = arrays.values()
        if suffix != ".png":
            return [_replace(path, lambda hidden: _WRITERS[suffix](hidden, {"": array}, colour))]
        image = drawable(array, colour=colour, top=top)
        if image.ndim == (3 if colour else 2):
            return [_replace(path, Image.fromarray(image).save)]
        return [
            _replace(path.with_name(f"{path.stem}-{i:04d}.png"), Image.fromarray(page).save)
            for i, page in enumerate(image)
        ]
    except OSError as error:
        raise MachineError(f"cannot write {path} ({error.strerror or error}): choose another --output") from error


def drawable(array: np.ndarray, *, colour: bool, top: float) -> np.ndarray:
    """What a PNG can hold of an array: uint8, or uint16 when grey."""
    if array.dtype == np.uint8 or (array.dtype == np.uint16 and not colour):
        return array
    share = np.abs(array) if np.iscomplexobj(array) else array
    share = np.clip(share.astype(np.float64) / (65535 if array.dtype == np.uint16 else top), 0, 1)
    return np.rint(share * 255).astype(np.uint8) if colour else np.rint(share * 65535).astype(np.uint16)


def _read_npz(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _read_h5(path: Path) -> Arrays:
    import h5py  # slow to import

    found: Arrays = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim >= 2:
            found[name] = item[()]

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


def _read_png(path: Path) -> Arrays:
    with Image.open(path) as file:
        if file.format != "PNG":
            raise DataError(f"{path}: is a {file.format} file by its content")
        if file.mode in ("RGB", "RGBA") and path.read_bytes()[_PNG_DEPTH_AT] == 16:
            raise DataError(f"{path}: 16-bit colour PNGs would lose half their bits on reading; convert it to tif")
        if file.mode == "P":
            return {"": np.asarray(file.convert("RGB"))}
        array = np.asarray(file.convert("L") if file.mode == "1" else file)
    return {"": array.astype(np.uint16) if array.dtype.kind == "i" else array}


def _read_tif(path: Path) -> Arrays:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            array = series.asarray()
            return {"": np.moveaxis(array, series.axes.index("S"), -1) if "S" in series.axes else array}
    except (tifffile.TiffFileError, IndexError) as error:
        raise ValueError(str(error)) from error


def _write_h5(path: Path, arrays: Arrays, colour: bool) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def _write_tif(path: Path, arrays: Arrays, colour: bool) -> None:
    import tifffile

    array = np.ascontiguousarray(arrays[""])
    tifffile.imwrite(path, array, photometric="rgb" if colour and array.shape[-1] in (3, 4) else "minisblack")


def _replace(path: Path, write_to: Callable[[Path], object]) -> Path:
    """Write beside and rename, so that no half-written image bears the name."""
    hidden = path.with_name(f".{path.name}")
    try:
        write_to(hidden)
        os.replace(hidden, path)
    finally:
        hidden.unlink(missing_ok=True)
    return path


def _check(array: np.ndarray, where: str) -> None:
    if array.dtype.kind not in "uifc":
        raise DataError(f"{where}: holds {array.dtype}, expected numbers")
    if not 2 <= array.ndim <= 4 or 0 in array.shape:
        raise DataError(f"{where}: has shape {array.shape}, expected (H, W), a stack (N, H, W), or with channels last")
    if array.dtype.kind in "fc" and not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise DataError(f"{where}: holds {bad} NaN or infinite values; repair the image first")


_READERS: dict[str, Callable[[Path], Arrays]] = {
    ".npy": lambda path: {"": np.load(path, allow_pickle=False)},
    ".npz": _read_npz,
    ".h5": _read_h5,
    ".png": _read_png,
    ".tif": _read_tif,
}

_WRITERS: dict[str, Callable[[Path, Arrays, bool], object]] = {
    ".npy": lambda path, arrays, colour: np.save(path, arrays[""]),
    ".npz": lambda path, arrays, colour: np.savez(path, **arrays),  # type: ignore[arg-type]
    ".h5": _write_h5,
    ".tif": _write_tif,
}
