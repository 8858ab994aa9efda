"""Arrays in .npy and .npz files: stacks of slices (N, H, W) or (N, H, W, C), one or more fields of the same length.

  python -m shards.build arrays --field noisy=noisy.npy --field clean=data.npz:clean --group-size 30 --output DIR

--group-size says how many neighbours belong to one patient or volume, because splits are never drawn by slice.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from configs.errors import DataError
from configs.support.arguments import real_number, whole_number
from shards.building import assemble, splits
from shards.building.assemble import Item
from shards.sources.common import stacks as _stacks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m shards.build arrays`."""
    parser.add_argument(
        "--field",
        action="append",
        required=True,
        metavar="NAME=FILE[:KEY]",
        help="a field and its .npy file, or .npz file and array name",
    )
    parser.add_argument(
        "--group-size",
        type=whole_number(1),
        required=True,
        help="neighbouring slices of one patient or volume; 1 if every image stands alone",
    )
    parser.add_argument(
        "--data-range",
        type=real_number(above=0),
        required=True,
        help="range of the images PSNR is computed with; 1 for 8- and 16-bit ones, read into [0, 1]",
    )
    parser.add_argument("--licence", default="not stated", help="licence note for the shards")
    splits.add_argument(parser, "80,10,10")


def build(args: argparse.Namespace) -> dict[str, Any]:
    """Write the splits below args.output; returns split -> index header."""
    where = _stacks.fields(args.field)
    stacks = {name: _stack(str(path)) for name, path in where.items()}
    lengths = {name: len(stack) for name, stack in stacks.items()}
    if len(set(lengths.values())) > 1:
        raise DataError("fields of different length: " + ", ".join(f"{name} {size}" for name, size in lengths.items()))
    count = next(iter(lengths.values()))
    origin = tuple(Path(str(path).rpartition(":")[0] if ".npz:" in str(path) else path) for path in where.values())
    items = [
        Item(f"g{group:05d}", f"g{group:05d}", partial(_load, stacks, group, args.group_size), origin)
        for group in range(-(-count // args.group_size))
    ]
    home = splits.assign([item.group for item in items], args)
    chosen = {split: [item for item in items if home[item.group] == split] for split in splits.NAMES}
    meta = {"source": "arrays", "data_range": args.data_range, "seed": args.seed, "licence": args.licence}
    return assemble.write(args, "arrays", chosen, meta)


def _stack(where: str) -> np.ndarray:
    """A memory-mapped .npy, or one array of an .npz."""
    path, _, key = where.rpartition(":") if ".npz:" in where else (where, "", "")
    try:
        if path.endswith(".npz"):
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                if not key and len(archive.files) > 1:
                    raise DataError(f"{path}: holds {', '.join(archive.files)}: name one, as in FILE.npz:KEY")
                array = archive[key or archive.files[0]]
        else:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where}: cannot be read as an array ({error})") from error
    if array.ndim not in (3, 4) or array.dtype.kind not in "fciu":
        raise DataError(f"{where}: shape {array.shape} of {array.dtype}; expected (N, H, W) or (N, H, W, C) of numbers")
    return array


def _load(stacks: dict[str, np.ndarray], group: int, size: int) -> list[assemble.Sample]:
    count = len(next(iter(stacks.values())))
    samples = []
    for number in range(group * size, min(count, (group + 1) * size)):
        parts = {name: np.ascontiguousarray(stack[number]) for name, stack in stacks.items()}
        samples += assemble.one(f"g{group:05d}-{number:06d}", parts, slice=number)
    return samples
