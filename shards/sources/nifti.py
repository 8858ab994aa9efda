r"""Build shards from NIfTI volumes of co-registered contrasts, matched by file name. Needs nibabel.

Reads one folder per contrast, searched for .nii and .nii.gz. Volumes of a subject are matched by file name, or by the
part of it that --match selects. All volumes are brought into canonical orientation: axis 0 runs to the patient's right,
1 to the front, 2 to the head, and volumes of a subject must have the same shape and affine matrix then.

Writes a sample per slice along --axis, float32 or complex64, with the fields named by --field. Each volume is divided
by its 99.5th percentile. Splits are by subject. With --repeats the files are series of volumes (X, Y, Z, T) whose last
axis holds repeats of one contrast, paired in order: each sample has the fields NAME and NAME_second, for noise2noise
and for measuring noise.

  python -m shards.build nifti --field pd=T1w --field pdfs=T2w --match '(sub-\d+)' --output DIR
  python -m shards.build nifti --field noisy=BOLD --repeats --output DIR
"""

import argparse
import re
from functools import partial
from pathlib import Path

import numpy as np

from quell.configs.errors import DataError
from quell.configs.support.logs import get_logger
from quell.shards.building import splits
from quell.shards.building.build_splits import Headers, build_splits
from quell.shards.building.image_files import add_file, key_of, match_fields
from quell.shards.building.items import Sample, WorkItem
from quell.shards.building.options import add_allow_missing_argument, add_licence_argument
from quell.shards.image_files.geometry import differences
from quell.shards.image_files.image import StoredImage
from quell.shards.image_files.nifti import slice_axis
from quell.shards.image_files.read import read_one
from quell.shards.listing.folders import list_files
from quell.shards.sources.common.contrast_slices import (
    add_content_argument,
    add_units_arguments,
    slice_samples,
    stated_range,
    units_notes,
)
from quell.shards.sources.common.field_arguments import add_field_argument, parse_fields
from quell.shards.sources.common.repeats import SECOND, add_repeats_argument, check_names, common_scales, pair_numbers

log = get_logger(__name__)

SUFFIXES = (".nii", ".nii.gz")
PLANES = ("sagittal", "coronal", "axial")
AXES = (2, 0, 1)
"""Axes of `StoredImage.pixels` (z, x, y) -> those of the patient."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m shards.build nifti`."""
    add_field_argument(parser, "NAME=FOLDER", "a contrast and the folder of its .nii or .nii.gz volumes")
    parser.add_argument(
        "--match",
        help="regular expression; its first group is the part of a file name that identifies the subject "
        "(default: the whole name)",
    )
    parser.add_argument(
        "--axis",
        default="auto",
        choices=("auto", "0", "1", "2"),
        help="axis to slice along: 0 gives sagittal slices, 1 coronal and 2 axial ones; auto: the one along which "
        "voxels are longest, across the slices of a 2-D acquisition, or 2 where they are about as long along all "
        "(default auto)",
    )
    add_repeats_argument(parser, "the last of the four axes of each file holds repeats of one contrast")
    add_content_argument(parser, 0.05)
    add_units_arguments(parser)
    add_allow_missing_argument(parser)
    add_licence_argument(parser)
    splits.add_split_arguments(parser, "80,10,10")


def build(args: argparse.Namespace) -> Headers:
    """Write the splits to args.output; returns split -> index header."""
    folders = parse_fields(args.field)
    if args.repeats:
        check_names(list(folders))
    files = {name: _list_volumes(Path(folder), args.match) for name, folder in folders.items()}
    matched = match_fields(files, allow_missing=args.allow_missing)
    axis = _axis([path for contrasts in matched.values() for path in contrasts.values()], args.axis)
    items = [
        WorkItem(key, key, partial(_load, key, contrasts, axis, args), tuple(contrasts.values()))
        for key, contrasts in matched.items()
    ]
    meta = {
        "source": "nifti",
        "seed": args.seed,
        "licence": args.licence,
        "axis": axis,
        **units_notes(args),
    }
    return build_splits(args, "nifti", splits.divide(items, args), meta)


def _list_volumes(folder: Path, pattern: str | None) -> dict[str, Path]:
    """Key -> volume."""
    files: dict[str, Path] = {}
    for path in list_files(folder, SUFFIXES, recursive=True, what="NIfTI volumes"):
        name = re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)
        add_file(files, key_of(path.with_name(f"{name}.x"), pattern), path)
    return files


def _axis(paths: list[Path], wanted: str) -> int:
    """The axis to slice along. Raises DataError where volumes come from acquisitions of different planes."""
    if wanted != "auto":
        return int(wanted)
    found: dict[int, Path] = {}
    for path in paths:
        try:
            axis = slice_axis(path)
        except DataError:
            continue  # reported when the volume is read
        if axis is not None:
            found.setdefault(axis, path)
    if len(found) > 1:
        places = ", ".join(f"{PLANES[axis]} in {path}" for axis, path in sorted(found.items()))
        raise DataError(
            f"the volumes have slices of different planes ({places}); choose one with --axis, or separate them"
        )
    axis = next(iter(found), 2)
    log.info(f"slices: {PLANES[axis]} (--axis {axis})")
    return axis


def _load(key: str, files: dict[str, Path], axis: int, args: argparse.Namespace) -> list[Sample]:
    stacks = {name: _read(path, repeats=args.repeats) for name, path in files.items()}
    first, *others = stacks.values()
    for other in others:
        _check_aligned(first, other)
    slices_first = {
        name: np.moveaxis(stack.plain, (-3, -2, -1), np.subtract(AXES, 3)) for name, stack in stacks.items()
    }
    slices_first = {name: np.moveaxis(stack, axis - 3, -3) for name, stack in slices_first.items()}
    cut = partial(
        slice_samples,
        least_content=args.least_content,
        keep_units=args.keep_units,
        suggested_range=stated_range(stacks.values()),
    )
    if not args.repeats:
        return cut(key, slices_first)
    samples = []
    volumes = {
        name: [f"volume {i} of {files[name]}" for i in range(len(stack))] for name, stack in slices_first.items()
    }
    for numbers in pair_numbers(key, volumes):
        pair_key = f"{key}-r{numbers[0]:02d}"
        pair = {
            name + suffix: stack[number]
            for name, stack in slices_first.items()
            for suffix, number in zip(("", SECOND), numbers, strict=True)
        }
        samples += cut(pair_key, pair, scales=common_scales(pair_key, pair), notes={"repeats": list(numbers)})
    return samples


def _read(path: Path, *, repeats: bool) -> StoredImage:
    stack = read_one(path)
    shape = stack.geometry.layout.file_shape
    if stack.format != "nifti" or len(stack.stack_axes) not in (1, 2):
        raise DataError(f"{path}: expected a volume with 3 axes, got shape {shape}")
    is_series = len(stack.stack_axes) == 2
    if repeats and not is_series:
        raise DataError(
            f"{path}: --repeats expects a series of volumes with 4 axes, the last over repeats of one contrast, got "
            f"shape {shape}; build without --repeats, or leave the file out"
        )
    if is_series and not repeats:
        raise DataError(
            f"{path}: expected a single volume with 3 axes, got shape {shape}; if its last axis holds repeats of one "
            "contrast, --repeats makes pairs of noisy copies of them, else divide it into one file per volume"
        )
    return stack


def _check_aligned(a: StoredImage, b: StoredImage) -> None:
    """Raise DataError where two volumes of the same shape do not show the same places."""
    if (a.geometry.affine is None) != (b.geometry.affine is None):
        with_place, without = (a, b) if b.geometry.affine is None else (b, a)
        raise DataError(
            f"{without.path} states no orientation (sform and qform have code 0) but {with_place.path} does; set it, "
            "or remove it from both"
        )
    found = differences(a.geometry, b.geometry) if a.plain.shape[-3:] == b.plain.shape[-3:] else []
    if found:
        raise DataError(f"{b.path} and {a.path} are not aligned: {'; '.join(found)}; register the contrasts first")
