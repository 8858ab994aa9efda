"""Paired .h5 files whose every dataset is a slice: ROOT[/split]/{pd,pdfs}/*.h5, as the older training code reads them.

Slices pair by file name and dataset name. Clean images are found in a folder beside (`pd_clean/`) or in a group of the
file (`pd_clean`, `pd_gt`, `pd_target`, `pd_ref`, `clean_pd`), which the older code mistook for slices.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from configs.errors import DataError
from shards.building import assemble, splits
from shards.building.assemble import Item
from shards.sources.common import volumes

NAMES = {"pd": ("pd", "PD", "Pd"), "pdfs": ("pdfs", "PDFS", "Pdfs", "PdFs")}
CLEAN = ("{}_clean", "{}_gt", "{}_target", "{}_ref", "clean_{}")


def build(args: argparse.Namespace) -> dict[str, Any]:
    """Write the splits; folders named train, val and test are taken as they are, else files are drawn by --seed."""
    root = Path(args.input[0])
    chosen = {split: _items(root / split) for split in splits.NAMES if _folder(root / split, "pd")}
    if not chosen:
        items = _items(root)
        home = splits.assign([item.group for item in items], args)
        chosen = {split: [item for item in items if home[item.group] == split] for split in splits.NAMES}
    meta = {
        "source": "fastmri keyed",
        "data_range": 1.0,
        "seed": args.seed,
        "licence": "not stated",
        "units": "as stored; data_range 1 is right only where the images reach about 1",
    }
    return assemble.write(args, "keyed", chosen, meta)


def _folder(root: Path, contrast: str) -> Path | None:
    return next((root / name for name in NAMES[contrast] if (root / name).is_dir()), None)


def _items(root: Path) -> list[Item]:
    pd, pdfs = _folder(root, "pd"), _folder(root, "pdfs")
    if pd is None or pdfs is None:
        raise DataError(f"{root}: expected the folders pd and pdfs with .h5 files, directly or below train/")
    names = sorted(path.name for path in pd.glob("*.h5") if (pdfs / path.name).is_file())
    if not names:
        raise DataError(f"{root}: no .h5 file name is in both pd and pdfs")
    return [
        Item(
            Path(name).stem.replace(".", "-"),
            Path(name).stem,
            partial(_load, pd / name, pdfs / name),
            (pd / name, pdfs / name),
        )
        for name in names
    ]


def _load(pd: Path, pdfs: Path) -> list[assemble.Sample]:
    files = {"pd": pd, "pdfs": pdfs}
    images = {name: volumes.keyed_slices(path) for name, path in files.items()}
    clean = {name: _clean(name, path) for name, path in files.items()}
    samples = []
    for key in sorted(images["pd"].keys() & images["pdfs"].keys()):
        parts = {name: images[name][key] for name in files}
        parts |= {f"{name}_clean": clean[name][key] for name in files if key in clean[name]}
        samples += assemble.one(f"{pd.stem}-{key}".replace(".", "-"), parts, file=pd.stem, slice=key)
    if not samples:
        raise DataError(f"{pd} and {pdfs}: no dataset name is in both")
    return samples


def _clean(contrast: str, path: Path) -> dict[str, Any]:
    for pattern in CLEAN:
        beside = path.parent.parent / pattern.format(contrast) / path.name
        if beside.is_file():
            return volumes.keyed_slices(beside)
    return volumes.keyed_slices(path, inside=tuple(pattern.format(contrast) for pattern in CLEAN))
