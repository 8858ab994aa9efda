"""Restored arrays in another format than their input's (`--format`), without its metadata.

| written | as |
|---|---|
| npy, tif | the array unchanged, complex included |
| png | uint8, and uint16 without colour, unchanged; all else for viewing only: magnitude in 16 bits, colour in 8 bits |

A stack is written to numbered png files.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from quell.configs.errors import ConfigError, MachineError


def write(path: Path, array: np.ndarray, *, colour: bool = False, white: float = 1.0) -> list[Path]:
    """Write an array in the format that the file's suffix names; folders are created.

    Args:
        path: A .npy, .tif or .png file. A stack becomes the files `<stem>-0000.png`, `<stem>-0001.png`, ... beside it.
        array: (H, W), (N, H, W), or either with channels last.
        colour: Whether the last axis holds channels.
        white: The value shown as white where float or complex arrays become a PNG.

    Returns:
        The files written.

    Raises:
        ConfigError: The suffix is none of these.
        MachineError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npy":
            return [_replace(path, lambda temporary: np.save(temporary, array))]
        if path.suffix == ".tif":
            return [_replace(path, lambda temporary: _write_tif(temporary, array, colour))]
        if path.suffix != ".png":
            raise ConfigError(f"{path}: cannot be written as '{path.suffix}': name a .npy, .tif or .png file")
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


def png_losses(array: np.ndarray, *, colour: bool) -> list[str]:
    """What `png_values` changes, as sentences for the user."""
    keep = "for viewing only; --format npy or tif keeps the values"
    if array.dtype == np.uint16:
        return [f"16-bit colour became 8-bit colour, {keep}"] if colour else []
    if array.dtype == np.uint8:
        return []
    lost = "magnitudes only" if np.iscomplexobj(array) else "values below 0 are black"
    return [f"{array.dtype} became {8 if colour else 16} bits, brightest value of the input white, {lost}, {keep}"]


def _write_tif(path: Path, array: np.ndarray, colour: bool) -> None:
    import tifffile

    array = np.ascontiguousarray(array)
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
