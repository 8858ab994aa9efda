"""Build shards of low-dose and full-dose CT slices, in the layout of the AAPM Low Dose CT Grand Challenge and the like.

Reads DICOM (.IMA, .dcm) or image files anywhere below --input. Dose (quarter, QD, low / full, FD, high) and patient
(L067) are recognised in the path of a file; see --low, --full and --patient. DICOM slices are paired by position, other
images by the rest of their names.

Writes `noisy` and `clean`, float32, Hounsfield units with --window scaled to [0, 1], not clipped. 8- and 16-bit images
are stored as they are and scaled to [0, 1] when they are read for training. Splits are by patient.

  python -m shards.build ldct --input AAPM --output DIR
"""

import argparse
import re
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from configs.errors import ConfigError, DataError
from configs.support.arguments import regular_expression
from shards.building import image_files, splits
from shards.building.build_splits import Headers, build_splits
from shards.building.items import Sample, WorkItem
from shards.building.options import add_licence_argument
from shards.sources.common.dicom_series import read_pixels, read_slice_header

DOSES = {"noisy": r"(?i)(quarter|low|[_-]?QD(?=[_.-]|$))", "clean": r"(?i)(full|high|[_-]?FD(?=[_.-]|$))"}


class Window(NamedTuple):
    """The Hounsfield units that are stored as 0 and 1."""

    low: float
    high: float


class DosePair(NamedTuple):
    """The two files of a slice."""

    patient: str
    key: str
    noisy: Path
    clean: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m shards.build ldct`."""
    parser.add_argument("--input", required=True, help="folder that is searched for slices of both doses")
    parser.add_argument(
        "--low",
        type=regular_expression(),
        default=DOSES["noisy"],
        help="regular expression that matches the paths of low-dose files (default: quarter, low or QD)",
    )
    parser.add_argument(
        "--full",
        type=regular_expression(),
        default=DOSES["clean"],
        help="regular expression that matches the paths of full-dose files (default: full, high or FD)",
    )
    parser.add_argument(
        "--patient",
        type=regular_expression(groups=1),
        default=r"(L\d{3})",
        help="regular expression whose first group is the patient in a path (default: L and three digits)",
    )
    parser.add_argument(
        "--window",
        default="-1024,3072",
        metavar="LOW,HIGH",
        help="Hounsfield units that are stored as 0 and 1; values beyond are not clipped (default -1024,3072)",
    )
    add_licence_argument(parser, "not stated; AAPM data may not be given on")
    splits.add_split_arguments(parser, "80,10,10")


def build(args: argparse.Namespace) -> Headers:
    """Write the splits to args.output; returns split -> index header."""
    window = _window(args.window)
    items = [
        WorkItem(pair.key, pair.patient, partial(_load, pair, window), (pair.noisy, pair.clean))
        for pair in _pair_doses(args)
    ]
    meta = {
        "source": "ldct",
        "data_range": 1.0,
        "seed": args.seed,
        "licence": args.licence,
        "window_hu": list(window),
        "noise": "quantum noise of the low dose",
    }
    return build_splits(args, "ldct", splits.divide(items, args), meta)


def _window(text: str) -> Window:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--window {text}: expected two numbers such as -1024,3072") from error
    if not low < high:
        raise ConfigError(f"--window {text}: expected the smaller number first")
    return Window(low, high)


def _pair_doses(args: argparse.Namespace) -> list[DosePair]:
    """Every slice of which there are both doses, by patient and position."""
    root = Path(args.input)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    slices: dict[tuple[str, str], dict[str, Path]] = defaultdict(dict)
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        relative = str(path.relative_to(root))
        dose = "noisy" if re.search(args.low, relative) else "clean" if re.search(args.full, relative) else None
        patient = re.search(args.patient, relative)
        if dose is None or patient is None:
            continue
        position = _position(path, args)
        if position is None:
            continue
        files = slices[patient.group(1), position]
        if dose in files:
            raise DataError(f"{path} and {files[dose]} are the same slice at the same dose; remove one")
        files[dose] = path
    pairs = [
        DosePair(patient, f"{patient}-{position}", files["noisy"], files["clean"])
        for (patient, position), files in sorted(slices.items())
        if len(files) == 2
    ]
    if not pairs:
        raise DataError(f"{root}: holds {len(slices)} slices, none in both doses; see --low, --full and --patient")
    return pairs


def _position(path: Path, args: argparse.Namespace) -> str | None:
    """What identifies a slice in both doses: its position, or its name without the words for the dose.

    None for a file that is neither DICOM nor an image.
    """
    if path.suffix.lower() in image_files.SUFFIXES:
        name = re.sub(args.full, "", re.sub(args.low, "", path.stem))
        return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
    if path.suffix.lower() in (".ima", ".dcm"):
        return f"{read_slice_header(path).position_mm:+09.2f}".replace(".", "_")
    return None


def _load(pair: DosePair, window: Window) -> list[Sample]:
    noisy, clean = _read(pair.noisy, window), _read(pair.clean, window)
    if noisy.shape != clean.shape:
        raise DataError(f"{pair.noisy} is {noisy.shape} but {pair.clean} is {clean.shape}")
    return [Sample.of_arrays(pair.key, {"noisy": noisy, "clean": clean})]


def _read(path: Path, window: Window) -> np.ndarray:
    if path.suffix.lower() in image_files.SUFFIXES:
        image = image_files.read_image(path, grey=True)
    else:
        image = read_pixels(path)
    if image.dtype.kind == "u":
        return image  # not in Hounsfield units
    return ((image - window.low) / (window.high - window.low)).astype(np.float32)
