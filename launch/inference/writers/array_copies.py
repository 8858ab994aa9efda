"""Copies of npy, npz and h5 files with other arrays; byte order, memory order, compression and attributes are kept."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]


class Replacement(dict[str, tuple[str, np.ndarray]]):
    """Name in the copy -> (name of the array in the source that it replaces, or "" for a new one; values)."""


def write_npy(source: Path, target: Path, values: np.ndarray) -> list[str]:
    """Write an array in the byte order and the memory order of another; nothing is lost."""
    old = np.load(source, mmap_mode="r", allow_pickle=False)
    new = np.asarray(values, _with_byte_order(values.dtype, old.dtype))
    is_fortran = old.flags.f_contiguous and not old.flags.c_contiguous
    with open(target, "wb") as file:
        np.save(file, np.asfortranarray(new) if is_fortran else np.ascontiguousarray(new))
    return []


def write_npz(source: Path, target: Path, replaced: Replacement, left_out: set[str]) -> list[str]:
    """Write an npz file: the arrays of another, some replaced.

    Args:
        source: The file whose other arrays, and whose compression, are kept.
        target: Where to write.
        replaced: The new arrays.
        left_out: Arrays of the source that are not copied.

    Returns:
        What could not be kept, one sentence each: nothing.
    """
    with zipfile.ZipFile(source) as archive:
        is_compressed = any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist())
    with np.load(source, allow_pickle=False) as old:
        arrays: dict[str, np.ndarray] = {}
        for name in old.files:
            if name in replaced:
                continue
            if name not in left_out and name not in {of for of, _ in replaced.values()}:
                arrays[name] = old[name]
        for name, (of, values) in replaced.items():
            arrays[name] = np.asarray(values, _with_byte_order(values.dtype, old[of].dtype))
    with open(target, "wb") as file:
        save: Any = np.savez_compressed if is_compressed else np.savez
        save(file, **arrays)
    return []


def write_hdf5(source: Path, target: Path, replaced: Replacement, left_out: set[str]) -> list[str]:
    """Write an HDF5 file: everything of another, with some datasets replaced.

    Args:
        source: The file whose groups, attributes and other datasets are kept.
        target: Where to write.
        replaced: The new datasets, with the attributes, chunks and filters of the old ones.
        left_out: Datasets of the source that are not copied.

    Returns:
        What could not be kept, one sentence each: nothing.
    """
    import h5py

    with h5py.File(source, "r") as old, h5py.File(target, "w", userblock_size=old.userblock_size) as new:
        skipped = left_out | {of for of, _ in replaced.values()}
        _copy_group(old, new, skipped)
        for name, (of, values) in replaced.items():
            if not of:
                new.create_dataset(name, data=values)
                continue
            dataset = old[of]
            dtype = _with_byte_order(values.dtype, dataset.dtype)
            created = new.create_dataset(name, data=np.asarray(values, dtype), **_layout_of(dataset))
            for key, value in dataset.attrs.items():
                created.attrs[key] = value
    return []


def _copy_group(old: Any, new: Any, skipped: set[str]) -> None:
    """Copy attributes, datasets, links and groups, in the source's order, except the datasets that are skipped."""
    import h5py

    for key, value in old.attrs.items():
        new.attrs[key] = value
    for name in list(old):
        link = old.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            new[name] = link
            continue
        item = old[name]
        path = item.name.lstrip("/")
        if isinstance(item, h5py.Group):
            _copy_group(item, new.create_group(name), skipped)
        elif path not in skipped:
            old.copy(item, new, name=name)


def _layout_of(dataset: Any) -> dict[str, Any]:
    layout = {
        "chunks": dataset.chunks,
        "compression": dataset.compression,
        "compression_opts": dataset.compression_opts,
        "shuffle": dataset.shuffle or None,
        "fletcher32": dataset.fletcher32 or None,
    }
    if dataset.maxshape != dataset.shape:
        layout["maxshape"] = dataset.maxshape
    return {key: value for key, value in layout.items() if value is not None}


def _with_byte_order(dtype: np.dtype, like: np.dtype) -> np.dtype:
    """The dtype in the byte order of another."""
    return dtype.newbyteorder(">") if like.byteorder == ">" else dtype.newbyteorder("<")
