r"""Build shards from NIfTI volumes of co-registered contrasts, matched by file name. Needs nibabel.

Reads one folder per contrast, searched for .nii and .nii.gz. Volumes of a subject are matched by file name, or by the
part of it that --match selects; they must have the same shape and affine matrix.

Writes a sample per slice along --axis, float32 or complex64, with the fields named by --field. Each volume is divided
by its 99.5th percentile. Splits are by subject.

  python -m shards.build nifti --field pd=T1w --field pdfs=T2w --match '(sub-\d+)' --output DIR
"""

import argparse
from functools import partial
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np

from configs.errors import DataError
from shards.building import splits
from shards.building.build_splits import Headers, build_splits
from shards.building.image_files import add_file, key_of, match_fields
from shards.building.items import Sample, WorkItem
from shards.building.options import add_allow_missing_argument, add_licence_argument
from shards.sources.common.contrast_slices import UNITS, add_content_argument, slice_samples
from shards.sources.common.field_arguments import add_field_argument, parse_fields

AFFINE_MM = 1e-2
"""Entries of two affine matrices may differ by this much."""


class _NiftiVolume(NamedTuple):
    """The content of one file."""

    data: np.ndarray
    affine: np.ndarray
    """Voxel to world coordinates, 4 x 4, mm."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m shards.build nifti`."""
    add_field_argument(parser, "NAME=FOLDER", "a contrast and the folder of its .nii or .nii.gz volumes")
    parser.add_argument(
        "--match",
        help="regular expression; its first group is the part of a file name that identifies the subject "
        "(default: the whole name)",
    )
    parser.add_argument("--axis", type=int, default=2, choices=(0, 1, 2), help="axis to slice along (default 2)")
    add_content_argument(parser, 0.05)
    add_allow_missing_argument(parser)
    add_licence_argument(parser)
    splits.add_split_arguments(parser, "80,10,10")


def build(args: argparse.Namespace) -> Headers:
    """Write the splits to args.output; returns split -> index header."""
    files = {name: _list_volumes(Path(folder), args.match) for name, folder in parse_fields(args.field).items()}
    matched = match_fields(files, allow_missing=args.allow_missing)
    items = [
        WorkItem(key, key, partial(_load, key, contrasts, args), tuple(contrasts.values()))
        for key, contrasts in matched.items()
    ]
    meta = {
        "source": "nifti",
        "data_range": 1.0,
        "seed": args.seed,
        "licence": args.licence,
        "axis": args.axis,
        "units": UNITS,
    }
    return build_splits(args, "nifti", splits.divide(items, args), meta)


def _list_volumes(folder: Path, pattern: str | None) -> dict[str, Path]:
    """Key -> volume."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    paths = sorted({*folder.rglob("*.nii"), *folder.rglob("*.nii.gz")})
    if not paths:
        raise DataError(f"{folder}: no .nii or .nii.gz volumes")
    files: dict[str, Path] = {}
    for path in paths:
        name = path.name.removesuffix(".gz").removesuffix(".nii")
        add_file(files, key_of(path.with_name(f"{name}.x"), pattern), path)
    return files


def _load(key: str, files: dict[str, Path], args: argparse.Namespace) -> list[Sample]:
    volumes = {name: _read(path) for name, path in files.items()}
    first = next(iter(files))
    for name, volume in volumes.items():
        same_shape = volume.data.shape == volumes[first].data.shape
        if same_shape and not np.allclose(volume.affine, volumes[first].affine, atol=AFFINE_MM):
            raise DataError(
                f"{files[name]} and {files[first]} are not aligned (their affine matrices differ); register the "
                "contrasts first"
            )
    slices_first = {name: np.moveaxis(volume.data, args.axis, 0) for name, volume in volumes.items()}
    return slice_samples(key, slices_first, least_content=args.least_content)


def _read(path: Path) -> _NiftiVolume:
    try:
        image = nibabel.load(path)
        if not isinstance(image, nibabel.spatialimages.SpatialImage):  # CIFTI, surface data in a .nii file
            raise DataError(f"{path}: expected a volume, got a {type(image).__name__}")
        data = np.asarray(image.dataobj)
    except (OSError, ValueError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
        raise DataError(f"{path}: not a readable NIfTI volume ({error})") from error
    if data.ndim != 3:
        raise DataError(f"{path}: expected a single volume with 3 axes, got shape {data.shape}")
    return _NiftiVolume(data, np.asarray(image.affine))
