r"""Build shards from NumPy arrays: stacks of images in .npy and .npz files.

Reads one array per field, (N, H, W) or (N, H, W, C), real or complex; all with the same N. Arrays in .npy files are
memory-mapped, so they may be larger than the memory.

Writes a sample per image, with the fields named by --field, in the units and dtype of the arrays.

Images are never split one by one, because neighbours often show the same patient: --group-size consecutive images form
a group, which stays in one split.

  python -m shards.build arrays --field noisy=noisy.npy --field clean=data.npz:clean --group-size 30 --data-range 1 \
      --output DIR
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from quell.configs.errors import DataError
from quell.configs.support.arguments import whole_number
from quell.shards.building import splits
from quell.shards.building.build_splits import Headers, build_splits
from quell.shards.building.items import Sample, WorkItem
from quell.shards.building.options import add_data_range_argument, add_licence_argument
from quell.shards.image_files.arrays import numbers
from quell.shards.image_files.numpy_arrays import load_array
from quell.shards.listing.finite import check_finite
from quell.shards.sources.common.field_arguments import add_field_argument, parse_fields


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m shards.build arrays`."""
    add_field_argument(parser, "NAME=FILE[:KEY]", "a field and its .npy file, or .npz file and the array's name in it")
    parser.add_argument(
        "--group-size",
        type=whole_number(1),
        required=True,
        help="number of consecutive images from the same patient or volume; 1 if all images are independent",
    )
    add_data_range_argument(parser, None)
    add_licence_argument(parser)
    splits.add_split_arguments(parser, "80,10,10")


def build(args: argparse.Namespace) -> Headers:
    """Write the splits to args.output; returns split -> index header."""
    places = {name: _Place.parse(text) for name, text in parse_fields(args.field, "FILE[:KEY]").items()}
    stacks = {name: place.read() for name, place in places.items()}
    lengths = {name: len(stack) for name, stack in stacks.items()}
    if len(set(lengths.values())) > 1:
        sizes = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise DataError(f"fields of different length: {sizes} images")
    if len({stack.shape[1:3] for stack in stacks.values()}) > 1:
        sides = ", ".join(f"{places[name]} has {stack.shape[1]} x {stack.shape[2]}" for name, stack in stacks.items())
        raise DataError(f"images of different size: {sides} pixels; all fields of a sample show the same place")
    count = next(iter(lengths.values()))
    files = tuple(place.path for place in places.values())
    items = [
        WorkItem(f"g{group:05d}", f"g{group:05d}", partial(_load, stacks, places, group, args.group_size), files)
        for group in range(-(-count // args.group_size))
    ]
    meta = {"source": "arrays", "data_range": args.data_range, "seed": args.seed, "licence": args.licence}
    return build_splits(args, "arrays", splits.divide(items, args), meta)


class _Place:
    """Where an array is stored: a .npy file, or a .npz file and the array's name in it."""

    def __init__(self, path: Path, key: str = "") -> None:
        self.path, self.key = path, key

    @classmethod
    def parse(cls, text: str) -> "_Place":
        path, _, key = text.rpartition(":") if ".npz:" in text else (text, "", "")
        return cls(Path(path), key)

    def __str__(self) -> str:
        return f"{self.path}:{self.key}" if self.key else str(self.path)

    def read(self) -> np.ndarray:
        """The array; memory-mapped from a .npy file. Raises DataError for anything but a stack of images."""
        array = load_array(self.path, self.key, mapped=True)
        if array.ndim not in (3, 4) or array.dtype.kind not in "fciu":
            raise DataError(
                f"{self}: expected (N, H, W) or (N, H, W, C) of numbers, got shape {array.shape} of {array.dtype}"
            )
        return array


def _load(stacks: dict[str, np.ndarray], places: dict[str, _Place], group: int, group_size: int) -> list[Sample]:
    count = len(next(iter(stacks.values())))
    samples = []
    for number in range(group * group_size, min(count, (group + 1) * group_size)):
        fields = {}
        for name, stack in stacks.items():
            fields[name] = np.ascontiguousarray(numbers(stack[number], str(places[name])))
            check_finite(fields[name], f"{places[name]}: image {number}", "row,column")
        is_8_bit = all(image.dtype == np.uint8 for image in fields.values())
        stated = (1.0, "8-bit images") if is_8_bit else None
        samples.append(Sample.of_arrays(f"g{group:05d}-{number:06d}", fields, suggested_range=stated, slice=number))
    return samples
