"""Underwater photographs with references, as `noisy` and `clean`: the layouts in which they are published.

UIEB raw-890/reference-890, LSUI and the like input/GT, EUVP trainA/trainB, UFO-120 lrd/hr, already split or not. UIEB
has no canonical list of its 800 + 90 images: --seed 1337 draws one, which depends on the names and on which images show
the same scene.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from configs.errors import DataError
from shards.building import assemble, images, near_duplicates, splits
from shards.building.assemble import Item

LAYOUTS = (
    ("raw-890", "reference-890"),
    ("input", "GT"),
    ("input", "gt"),
    ("trainA", "trainB"),
    ("lrd", "hr"),
    ("input", "target"),
    ("raw", "reference"),
)
"""Folder of photographs, folder of references."""
SPLIT_FOLDERS = {
    "train": ("train", "train_val", "Train"),
    "val": ("val", "validation"),
    "test": ("test", "TEST", "Test"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m shards.build underwater`."""
    parser.add_argument(
        "--input",
        required=True,
        help="folder that holds input/ and GT/, raw-890/ and reference-890/, "
        "trainA/ and trainB/, or lrd/ and hr/, directly or below train/ and test/",
    )
    parser.add_argument(
        "--fit",
        action="store_true",
        help="resize photographs that are not of their reference's size (bicubic) instead of refusing",
    )
    parser.add_argument(
        "--alike",
        type=float,
        default=0.95,
        metavar="R",
        help="references whose thumbnails correlate by R or more are one scene and stay in one split; "
        "0 looks at names alone (default 0.95)",
    )
    parser.add_argument("--allow-missing", action="store_true", help="leave out names that lack a partner")
    parser.add_argument("--encoded", action="store_true", help="store files as they are (png, jpg) instead of arrays")
    parser.add_argument("--licence", default="not stated; see where the images come from", help="licence note")
    splits.add_argument(parser, "760,40,90")


def build(args: argparse.Namespace) -> dict[str, Any]:
    """Write the splits below args.output; returns split -> index header."""
    root = Path(args.input)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    chosen: dict[str, list[Item]] = {}
    pooled = _items(args, root) if _layout(root) else []
    for split, names in SPLIT_FOLDERS.items():
        chosen[split] = [
            item for name in names if _layout(root / name) for item in _items(args, root / name, f"{name}-")
        ]
    if not pooled and not any(chosen.values()):
        known = ", ".join("/".join(layout) for layout in LAYOUTS)
        raise DataError(
            f"{root}: no pair of folders as in UIEB, LSUI, EUVP or UFO-120 (known: {known}); for other "
            "layouts use the source `folder`"
        )
    if not chosen["test"] or not chosen["train"]:
        pooled += chosen.pop("train") + chosen.pop("test") + chosen.pop("val")
    home = splits.assign([item.group for item in pooled], args)
    for item in pooled:
        chosen.setdefault(home[item.group], []).append(item)
    meta = {
        "source": "underwater",
        "data_range": 1.0,
        "seed": args.seed,
        "licence": args.licence,
        "split_rule": "seeded by scene" if pooled else "as published",
        "encoded": args.encoded,
        "fit": args.fit,
    }
    return assemble.write(args, "underwater", {split: chosen.get(split, []) for split in splits.NAMES}, meta)


def _layout(folder: Path) -> tuple[Path, Path] | None:
    return next(
        (
            (folder / noisy, folder / clean)
            for noisy, clean in LAYOUTS
            if (folder / noisy).is_dir() and (folder / clean).is_dir()
        ),
        None,
    )


def _items(args: argparse.Namespace, folder: Path, prefix: str = "") -> list[Item]:
    layout = _layout(folder)
    assert layout is not None
    found = {name: images.by_key(images.files(path)) for name, path in zip(("noisy", "clean"), layout, strict=True)}
    matched = images.pairs(found, allow_missing=args.allow_missing)
    keys = list(matched)
    alike = (
        near_duplicates.groups([matched[key]["clean"] for key in keys], args.alike) if args.alike else range(len(keys))
    )
    return [
        Item(
            prefix + key,
            prefix + keys[first],
            partial(_load, prefix + key, matched[key], args),
            tuple(matched[key].values()),
        )
        for key, first in zip(keys, alike, strict=True)
    ]


def _load(key: str, chosen: dict[str, Path], args: argparse.Namespace) -> list[assemble.Sample]:
    noisy, clean = images.read(chosen["noisy"]), images.read(chosen["clean"])
    for name, image in (("noisy", noisy), ("clean", clean)):
        if image.ndim != 3:
            raise DataError(f"{chosen[name]}: a grey image among colour photographs")
    if noisy.shape != clean.shape:
        if not args.fit:
            raise DataError(
                f"{chosen['noisy']} is {noisy.shape[0]} x {noisy.shape[1]} but its reference is "
                f"{clean.shape[0]} x {clean.shape[1]}; --fit resizes it"
            )
        noisy = np.asarray(Image.fromarray(noisy).resize((clean.shape[1], clean.shape[0]), Image.Resampling.BICUBIC))
        return assemble.one(key, {"noisy": noisy, "clean": clean}, resized=True)
    if args.encoded:
        return [
            {"__key__": key, **{f"{name}{path.suffix.lower()}": path.read_bytes() for name, path in chosen.items()}}
        ]
    return assemble.one(key, {"noisy": noisy, "clean": clean})
