"""Copies of Zarr images with other pixels: all metadata, chunks and codecs, also of OME-Zarr with several levels."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from quell.configs.errors import DataError, MachineError

StoredRows = Callable[[int, int, int], np.ndarray]
"""(plane, first row, row after the last) -> (rows, W) in the dtype of the array."""


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr array or group."""
    return path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


def open_levels(path: Path) -> list[Any]:
    """The arrays of an image, from the full resolution to the smallest; one where the folder is a plain array.

    Raises:
        DataError: It is damaged, or a group that is no OME-Zarr image.
        MachineError: zarr is not installed.
    """
    try:
        import zarr
    except ImportError as error:
        raise MachineError(f"{path}: Zarr needs the zarr library: pip install zarr") from error
    try:
        opened = zarr.open(str(path), mode="r")
        return _levels_of(opened, path) if isinstance(opened, zarr.Group) else [opened]
    except DataError:
        raise
    except Exception as error:  # zarr, its codecs and stores raise many types
        raise DataError(f"{path}: cannot be read as Zarr ({type(error).__name__}: {error})") from error


def _levels_of(group: Any, path: Path) -> list[Any]:
    attributes = dict(group.attrs)
    described = attributes.get("ome", attributes).get("multiscales")
    if not described:
        raise DataError(f"{path}: a Zarr group without an OME image (multiscales); give one of its arrays")
    return [group[entry["path"]] for entry in described[0]["datasets"]]


def write_zarr(source: Path, target: Path, rows: StoredRows) -> list[str]:
    """Write a Zarr image whose pixels are others.

    Args:
        source: The folder whose metadata, chunks and codecs are kept.
        target: Where to write; must not exist.
        rows: The new pixels of each plane (the axes in front of the last two, in order), asked for from top to bottom.

    Returns:
        What could not be kept, one sentence each.
    """
    import zarr

    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(source, target)
    copy: Any = zarr.open(str(target), mode="r+")
    old = open_levels(source)
    paths = [str(level.path) for level in old]
    for path in paths:
        array = copy[path] if path else copy
        ratios = [max(1, round(a / b)) for a, b in zip(old[0].shape, array.shape, strict=True)]
        _write_planes(array, rows, ratios[-2], ratios[-1], old[0].shape)
    return ["its smaller levels were made from the restored pixels"] if len(paths) > 1 else []


def _write_planes(array: Any, rows: StoredRows, down: int, across: int, full_shape: tuple[int, ...]) -> None:
    """Fill an array plane by plane and chunk row by chunk row; a smaller level with means over blocks."""
    *leading, height, width = array.shape
    planes = [tuple(int(i) for i in place) for place in np.ndindex(*leading)]
    full_leading, full_height = full_shape[:-2], full_shape[-2]
    factors = [max(1, round(a / b)) for a, b in zip(full_leading, leading, strict=True)]
    band = max(1, int(array.chunks[-2]))
    for place in planes:
        source_place = [min(i * f, n - 1) for i, f, n in zip(place, factors, full_leading, strict=True)]
        plane = int(np.ravel_multi_index(source_place, full_leading)) if full_leading else 0
        for top in range(0, height, band):
            bottom = min(top + band, height)
            block = np.asarray(rows(plane, min(top * down, full_height - 1), min(bottom * down, full_height)))
            where = (*place, slice(top, bottom))
            array[where] = _means(block, bottom - top, width, down, across)


def _means(block: np.ndarray, rows: int, columns: int, down: int, across: int) -> np.ndarray:
    if down == across == 1:
        return block
    block = block[: rows * down, : columns * across]
    block = np.pad(block, ((0, rows * down - block.shape[0]), (0, columns * across - block.shape[1])), mode="edge")
    means = block.reshape(rows, down, columns, across).mean(axis=(1, 3), dtype=np.float64)
    return (np.rint(means) if block.dtype.kind in "ui" else means).astype(block.dtype)
