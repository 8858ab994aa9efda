"""Build shards of underwater photographs and their references, from the layouts of published data sets.

Reads UIEB (raw-890/reference-890), LSUI and similar (input/GT), EUVP (trainA/trainB) or UFO-120 (lrd/hr), either
directly in --input or in folders train, val and test there. Photographs and references have the same names. UIEB has no
canonical division into 800 and 90 images: --seed 1337 draws one, which depends on the names and on which images show
the same scene. Where train and test are published without val (LSUI), val is drawn from train.

Writes `noisy` (the photograph) and `clean` (the reference), colour, uint8 as stored (scaled to [0, 1] when it is read
for training). With --encoded the files themselves are stored. Near-duplicates stay in one split, see --alike.

  python -m shards.build underwater --input underwater_pairs --output DIR
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from quell.configs.errors import DataError
from quell.configs.support.logs import get_logger
from quell.shards.building import splits
from quell.shards.building.build_splits import Headers, build_splits
from quell.shards.building.image_files import by_key, check_encodable, list_images, match_fields, read_image
from quell.shards.building.items import Sample, WorkItem
from quell.shards.building.near_duplicates import near_duplicates
from quell.shards.building.options import (
    add_allow_missing_argument,
    add_data_range_argument,
    add_encoded_argument,
    add_licence_argument,
    declared_range,
)

log = get_logger(__name__)

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
"""Split -> the names its folder may have."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m shards.build underwater`."""
    parser.add_argument(
        "--input",
        required=True,
        help="folder with input/ and GT/, raw-890/ and reference-890/, trainA/ and trainB/, or lrd/ and hr/, directly "
        "or in train/ and test/",
    )
    parser.add_argument(
        "--fit",
        action="store_true",
        help="resize (bicubic) photographs that differ in size from their reference, instead of stopping",
    )
    parser.add_argument(
        "--alike",
        type=float,
        default=0.95,
        metavar="R",
        help="references whose thumbnails correlate by R or more count as one scene and stay in one split; 0: do not "
        "compare images (default 0.95)",
    )
    add_allow_missing_argument(parser)
    add_encoded_argument(parser)
    add_data_range_argument(parser, None, required=False, explained="1")
    add_licence_argument(parser, "not stated; see where the images come from")
    splits.add_split_arguments(parser, "760,40,90")


def build(args: argparse.Namespace) -> Headers:
    """Write the splits to args.output; returns split -> index header."""
    root = Path(args.input)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    published, pooled = _published_items(args, root)
    items = {split: published[split] + divided for split, divided in splits.divide(pooled, args).items()}
    meta = {
        "source": "underwater",
        "data_range": declared_range(args),
        "seed": args.seed,
        "licence": args.licence,
        "split_rule": "seeded by scene" if pooled else "as published, val drawn from train where there is none",
        "encoded": args.encoded,
        "fit": args.fit,
    }
    return build_splits(args, "underwater", items, meta)


def _published_items(args: argparse.Namespace, root: Path) -> tuple[dict[str, list[WorkItem]], list[WorkItem]]:
    """The items of each published split, and those that are to be divided.

    All are to be divided where the data set is not published with both train and test.
    """
    pooled = _items(args, root) if _find_layout(root) else []
    published = {
        split: [item for name in names if _find_layout(root / name) for item in _items(args, root / name, f"{name}-")]
        for split, names in SPLIT_FOLDERS.items()
    }
    if not pooled and not any(published.values()):
        layouts = ", ".join("/".join(layout) for layout in LAYOUTS)
        raise DataError(
            f"{root}: expected two folders as in UIEB, LSUI, EUVP or UFO-120 ({layouts}); for other layouts use the "
            "source `folder`"
        )
    if published["train"] and published["test"] and not published["val"] and not pooled:
        published |= _with_val(published["train"], args)
    if not published["test"] or not published["train"]:
        pooled += published["train"] + published["test"] + published["val"]
        published = {split: [] for split in splits.NAMES}
    return published, pooled


def _with_val(train: list[WorkItem], args: argparse.Namespace) -> dict[str, list[WorkItem]]:
    """A val split drawn from a published train split, in the proportions of --split; it is said aloud."""
    parts = args.split.split(",")
    without_test = ",".join([*parts[:2], "0"]) if len(parts) == 3 else args.split
    divided = splits.divide(train, argparse.Namespace(**{**vars(args), "split": without_test}))
    log.info(
        "no val split is published: %d of the %d training photographs were drawn for it (--seed, --split)",
        len(divided["val"]),
        len(train),
    )
    return {"train": divided["train"], "val": divided["val"]}


def _find_layout(folder: Path) -> tuple[Path, Path] | None:
    """The folders of photographs and references in `folder`, if it has them."""
    for layout in LAYOUTS:
        noisy, clean = (folder / name for name in layout)
        if noisy.is_dir() and clean.is_dir():
            return noisy, clean
    return None


def _items(args: argparse.Namespace, folder: Path, prefix: str = "") -> list[WorkItem]:
    """An item for each pair; the group is the first photograph of the same scene."""
    layout = _find_layout(folder)
    assert layout is not None
    files = {name: by_key(list_images(path)) for name, path in zip(("noisy", "clean"), layout, strict=True)}
    matched = match_fields(files, allow_missing=args.allow_missing)
    keys = list(matched)
    scenes: list[int] = list(range(len(keys)))
    if args.alike:
        scenes = near_duplicates([matched[key]["clean"] for key in keys], args.alike)
    return [
        WorkItem(
            prefix + key,
            prefix + keys[first],
            partial(_load, prefix + key, matched[key], args),
            tuple(matched[key].values()),
        )
        for key, first in zip(keys, scenes, strict=True)
    ]


def _load(key: str, files: dict[str, Path], args: argparse.Namespace) -> list[Sample]:
    noisy, clean = read_image(files["noisy"]), read_image(files["clean"])
    for name, image in (("noisy", noisy), ("clean", clean)):
        if image.ndim != 3:
            raise DataError(f"{files[name]}: expected a colour photograph, got a grey image")
    if noisy.shape != clean.shape:
        height, width = clean.shape[:2]
        if not args.fit:
            raise DataError(
                f"{files['noisy']} is {noisy.shape[0]} x {noisy.shape[1]} but its reference is {height} x {width}; "
                "--fit resizes it"
            )
        noisy = np.asarray(Image.fromarray(noisy).resize((width, height), Image.Resampling.BICUBIC))
        return [Sample.of_arrays(key, {"noisy": noisy, "clean": clean}, resized=True)]
    if args.encoded:
        for path in files.values():
            check_encodable(path)
        return [Sample.of_files(key, files)]
    return [Sample.of_arrays(key, {"noisy": noisy, "clean": clean})]
