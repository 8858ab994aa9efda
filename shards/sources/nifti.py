r"""NIfTI volumes of co-registered contrasts, matched by name, cut into slices; needs nibabel.

python -m shards.build nifti --field pd=T1w --field pdfs=T2w --match '(sub-\\d+)' --output DIR
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from configs.errors import DataError
from shards.building import assemble, images, splits
from shards.building.assemble import Item
from shards.sources.common import stacks

AFFINE_MM = 1e-2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m shards.build nifti`."""
    parser.add_argument(
        "--field",
        action="append",
        required=True,
        metavar="NAME=FOLDER",
        help="a contrast and the folder of its .nii or .nii.gz volumes",
    )
    parser.add_argument(
        "--match",
        help="regular expression whose first group is the part of a name that must agree, "
        "for example the subject; it is also the group that stays in one split",
    )
    parser.add_argument("--axis", type=int, default=2, choices=(0, 1, 2), help="axis of the slices (default 2)")
    parser.add_argument(
        "--least-content",
        type=float,
        default=0.05,
        metavar="F",
        help="leave out slices with less than this share of bright pixels (default 0.05)",
    )
    parser.add_argument("--allow-missing", action="store_true", help="leave out names that lack a partner")
    parser.add_argument("--licence", default="not stated", help="licence note for the shards")
    splits.add_argument(parser, "80,10,10")


def build(args: argparse.Namespace) -> dict[str, Any]:
    """Write the splits below args.output; returns split -> index header."""
    found = {name: _volumes(folder, args.match) for name, folder in stacks.fields(args.field).items()}
    matched = images.pairs(found, allow_missing=args.allow_missing)
    items = [Item(key, key, partial(_load, key, files, args), tuple(files.values())) for key, files in matched.items()]
    home = splits.assign([item.group for item in items], args)
    chosen = {split: [item for item in items if home[item.group] == split] for split in splits.NAMES}
    meta = {
        "source": "nifti",
        "data_range": 1.0,
        "seed": args.seed,
        "licence": args.licence,
        "axis": args.axis,
        "units": "each volume divided by its 99.5th percentile",
    }
    return assemble.write(args, "nifti", chosen, meta)


def _volumes(folder: Path, match: str | None) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    files = sorted({*folder.rglob("*.nii"), *folder.rglob("*.nii.gz")})
    if not files:
        raise DataError(f"{folder}: no .nii or .nii.gz volumes")
    found: dict[str, Path] = {}
    for file in files:
        key = images.key_of(file.with_name(file.name.removesuffix(".gz").removesuffix(".nii") + ".x"), match)
        if key in found:
            raise DataError(f"{found[key]} and {file} have the same key {key}; --match says what of a name to compare")
        found[key] = file
    return found


def _load(key: str, files: dict[str, Path], args: argparse.Namespace) -> list[assemble.Sample]:
    volumes, places = {}, {}
    for name, path in files.items():
        try:
            volume: Any = nibabel.load(path)
            data = np.asarray(volume.dataobj)
        except (OSError, ValueError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
            raise DataError(f"{path}: not a readable NIfTI volume ({error})") from error
        if data.ndim != 3:
            raise DataError(f"{path}: shape {data.shape} is not one volume")
        volumes[name], places[name] = np.moveaxis(data, args.axis, 0), volume.affine
    first = next(iter(files))
    for name, affine in places.items():
        if volumes[name].shape == volumes[first].shape and not np.allclose(affine, places[first], atol=AFFINE_MM):
            raise DataError(
                f"{files[name]} does not lie where {files[first]} does (affine matrices differ): register "
                "the contrasts first"
            )
    return stacks.slices(key, volumes, least_content=args.least_content)
