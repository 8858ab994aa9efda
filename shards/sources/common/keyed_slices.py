"""Paired .h5 files in which every data set is a slice: the `keyed` layout of the source fastmri.

ROOT[/split]/{pd,pdfs}/*.h5; slices are paired by file name and data set name. Clean images are optional: in a sibling
folder (`pd_clean/`), or in a group of the file (`pd_clean`, `pd_gt`, `pd_target`, `pd_ref`, `clean_pd`).
"""

import argparse
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from quell.configs.errors import DataError
from quell.shards.building import splits
from quell.shards.building.build_splits import Headers, build_splits
from quell.shards.building.items import Sample, WorkItem
from quell.shards.building.options import declared_range
from quell.shards.image_files import hdf5
from quell.shards.listing.finite import check_finite
from quell.shards.listing.folders import list_files
from quell.shards.listing.left_out import leave_out

FOLDER_NAMES = {"pd": ("pd", "PD", "Pd"), "pdfs": ("pdfs", "PDFS", "Pdfs", "PdFs")}
CLEAN_NAMES = ("{}_clean", "{}_gt", "{}_target", "{}_ref", "clean_{}")


def build(args: argparse.Namespace) -> Headers:
    """Write the splits; folders train, val and test are used as they are, other files are divided at random."""
    root = Path(args.input[0])
    items = {split: _items(root / split) for split in splits.NAMES if _contrast_folder(root / split, "pd")}
    if not items:
        items = splits.divide(_items(root), args)
    meta = {
        "source": "fastmri keyed",
        "data_range": declared_range(args),
        "seed": args.seed,
        "licence": "not stated",
        "units": "as stored; data_range 1 is right only where the images reach about 1",
    }
    return build_splits(args, "keyed", items, meta)


def _contrast_folder(root: Path, contrast: str) -> Path | None:
    return next((root / name for name in FOLDER_NAMES[contrast] if (root / name).is_dir()), None)


def _items(root: Path) -> list[WorkItem]:
    pd, pdfs = _contrast_folder(root, "pd"), _contrast_folder(root, "pdfs")
    if pd is None or pdfs is None:
        raise DataError(
            f"{root}: expected the folders pd and pdfs with .h5 files, here or in folders train, val and test"
        )
    files = {contrast: {path.name for path in list_files(contrast, (".h5",))} for contrast in (pd, pdfs)}
    names = sorted(files[pd] & files[pdfs])
    for contrast, found in files.items():
        for name in sorted(found - set(names)):
            leave_out("file without partner", contrast / name)
    if not names:
        raise DataError(f"{root}: no .h5 file has the same name in pd and pdfs")
    return [
        WorkItem(
            Path(name).stem.replace(".", "-"),
            Path(name).stem,
            partial(_load, pd / name, pdfs / name),
            (pd / name, pdfs / name),
        )
        for name in names
    ]


def _load(pd: Path, pdfs: Path) -> list[Sample]:
    files = {"pd": pd, "pdfs": pdfs}
    images = {name: _slices(path) for name, path in files.items()}
    clean = {name: _clean(name, path) for name, path in files.items()}
    samples = []
    common = images["pd"].keys() & images["pdfs"].keys()
    for name, path in files.items():
        for key in sorted(images[name].keys() - common):
            leave_out("slice without partner", f"{path}: {key}")
        for key in sorted(clean[name].keys() - common):
            leave_out("slice without partner", f"{name} clean: {path.stem}: {key}")
    for key in sorted(common):
        fields = {name: images[name][key] for name in files}
        fields |= {f"{name}_clean": clean[name][key] for name in files if key in clean[name]}
        shapes = {name: image.shape for name, image in fields.items()}
        if len(set(shapes.values())) > 1:
            sizes = ", ".join(f"{name} {height} x {width}" for name, (height, width) in shapes.items())
            raise DataError(f"{pd} and {pdfs}: slice {key}: images of different sizes ({sizes})")
        samples.append(Sample.of_arrays(f"{pd.stem}-{key}".replace(".", "-"), fields, file=pd.stem, slice=key))
    if not samples:
        raise DataError(f"{pd} and {pdfs}: no data set has the same name in both")
    return samples


def _clean(contrast: str, path: Path) -> dict[str, np.ndarray]:
    """The clean slices that belong to a file; empty where there are none."""
    names = tuple(pattern.format(contrast) for pattern in CLEAN_NAMES)
    for name in names:
        sibling = path.parent.parent / name / path.name
        if sibling.is_file():
            return _slices(sibling)
    with h5py.File(path, "r") as file:
        group = next((name for name in names if isinstance(file.get(name), h5py.Group)), None)
    return _slices(path, group) if group else {}


def _slices(path: Path, group: str = "/") -> dict[str, np.ndarray]:
    """The data sets of a group, each of which has to be one slice; groups inside it are passed over."""
    slices = {}
    for name, array in hdf5.read_arrays(path, group, recursive=False).items():
        slices[name] = hdf5.as_slice(array, f"{path}: {name}")
        check_finite(slices[name], f"{path}: {name}", "row,column")
    return slices
