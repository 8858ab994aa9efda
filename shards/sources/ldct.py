"""Low-dose CT beside full-dose CT, AAPM-like: DICOM (.IMA, .dcm) or images, as `noisy` and `clean`, split by patient.

  python -m shards.build ldct --input AAPM --output DIR

What is low and what is full dose is read from folders and names (quarter, QD, low / full, FD, high), the patient from
the names (L067) or --patient. DICOM slices pair by position, images by the rest of their names.
"""

import argparse
import re
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import ConfigError, DataError
from configs.support.arguments import regular_expression
from shards.building import assemble, images, splits
from shards.building.assemble import Item
from shards.sources.common import dicom_series

DOSES = {"noisy": r"(?i)(quarter|low|[_-]?QD(?=[_.-]|$))", "clean": r"(?i)(full|high|[_-]?FD(?=[_.-]|$))"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m shards.build ldct`."""
    parser.add_argument("--input", required=True, help="folder searched for slices of both doses")
    parser.add_argument(
        "--low", type=regular_expression(), default=DOSES["noisy"], help="regular expression that low-dose paths match"
    )
    parser.add_argument(
        "--full",
        type=regular_expression(),
        default=DOSES["clean"],
        help="regular expression that full-dose paths match",
    )
    parser.add_argument(
        "--patient",
        type=regular_expression(groups=1),
        default=r"(L\d{3})",
        help="regular expression whose first group is the patient",
    )
    parser.add_argument(
        "--window",
        default="-1024,3072",
        metavar="LOW,HIGH",
        help="Hounsfield units stored as 0 and 1; not clipped (default -1024,3072)",
    )
    parser.add_argument("--licence", default="not stated; AAPM data may not be given on", help="licence note")
    splits.add_argument(parser, "80,10,10")


def build(args: argparse.Namespace) -> dict[str, Any]:
    """Write the splits below args.output; returns split -> index header."""
    low, high = _window(args.window)
    found = _paired(args)
    items = [
        Item(key, patient, partial(_load, key, noisy, clean, low, high), (noisy, clean))
        for patient, key, noisy, clean in found
    ]
    home = splits.assign([item.group for item in items], args)
    chosen = {split: [item for item in items if home[item.group] == split] for split in splits.NAMES}
    meta = {
        "source": "ldct",
        "data_range": 1.0,
        "seed": args.seed,
        "licence": args.licence,
        "window_hu": [low, high],
        "noise": "quantum noise of the low dose",
    }
    return assemble.write(args, "ldct", chosen, meta)


def _window(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--window {text}: expected two numbers such as -1024,3072") from error
    if not low < high:
        raise ConfigError(f"--window {text}: the first number must be the smaller one")
    return low, high


def _paired(args: argparse.Namespace) -> list[tuple[str, str, Path, Path]]:
    """Patient, key, low-dose file and full-dose file of every slice both doses have."""
    root = Path(args.input)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    table: dict[tuple[str, str], dict[str, Path]] = defaultdict(dict)
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        inside = str(path.relative_to(root))
        dose = "noisy" if re.search(args.low, inside) else "clean" if re.search(args.full, inside) else None
        patient = re.search(args.patient, inside)
        if dose is None or patient is None:
            continue
        place = _place(path, args)
        if place is None:
            continue
        if dose in table[patient.group(1), place]:
            raise DataError(f"{path} and {table[patient.group(1), place][dose]} are the same slice of the same dose")
        table[patient.group(1), place][dose] = path
    whole = [
        (patient, f"{patient}-{place}", files["noisy"], files["clean"])
        for (patient, place), files in sorted(table.items())
        if len(files) == 2
    ]
    if not whole:
        raise DataError(f"{root}: {len(table)} slices found, none in both doses; see --low, --full and --patient")
    return whole


def _place(path: Path, args: argparse.Namespace) -> str | None:
    """What names a slice in both doses: its position, or the name without the words for dose."""
    if path.suffix.lower() in images.SUFFIXES:
        name = re.sub(args.full, "", re.sub(args.low, "", path.stem))
        return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
    if path.suffix.lower() in (".ima", ".dcm"):
        return f"{dicom_series.describe(path).position_mm:+09.2f}".replace(".", "_")
    return None


def _load(key: str, noisy: Path, clean: Path, low: float, high: float) -> list[assemble.Sample]:
    parts = {}
    for name, path in (("noisy", noisy), ("clean", clean)):
        image = images.read(path, grey=True) if path.suffix.lower() in images.SUFFIXES else dicom_series.pixels(path)
        if image.dtype.kind == "u":
            parts[name] = image  # 8- and 16-bit pictures are read into [0, 1] as they are
        else:
            parts[name] = ((image - low) / (high - low)).astype(np.float32)
    if parts["noisy"].shape != parts["clean"].shape:
        raise DataError(f"{noisy} is {parts['noisy'].shape} but {clean} is {parts['clean'].shape}")
    return assemble.one(key, parts)
