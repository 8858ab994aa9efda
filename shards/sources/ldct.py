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
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from quell.configs.errors import ConfigError, DataError
from quell.configs.support.arguments import regular_expression
from quell.shards.building import image_files, splits
from quell.shards.building.build_splits import Headers, build_splits
from quell.shards.building.items import Sample, WorkItem
from quell.shards.building.options import add_licence_argument
from quell.shards.image_files.dicom.headers import read_frames
from quell.shards.image_files.dicom.series import Series, find_series, read_series
from quell.shards.listing.folders import list_files
from quell.shards.listing.left_out import leave_out
from quell.shards.sources.common.contrast_pairing import Subject, pair_slices, warn_of_gaps

DICOM = (".ima", ".dcm")
SAME_POSITION_MM = 0.02
"""Slices of two doses are paired if their positions differ by at most this much."""
DOSES = {"noisy": r"(?i)(quarter|low|[_-]?QD(?=[_.-]|$))", "clean": r"(?i)(full|high|[_-]?FD(?=[_.-]|$))"}


class Window(NamedTuple):
    """The Hounsfield units that are stored as 0 and 1."""

    low: float
    high: float


class DosePair(NamedTuple):
    """The two files of a slice."""

    patient: str
    key: str
    noisy: Path | Series
    """An image file, or a DICOM series of one slice."""
    clean: Path | Series

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that both are read from."""
        return tuple(each if isinstance(each, Path) else each.frames[0].path for each in (self.noisy, self.clean))


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
    items = [WorkItem(pair.key, pair.patient, partial(_load, pair, window), pair.files) for pair in _pair_doses(args)]
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
    images: dict[tuple[str, str], dict[str, Path]] = defaultdict(dict)
    scans: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in list_files(root, (*image_files.SUFFIXES, *DICOM), recursive=True, what="DICOM or image files"):
        relative = str(path.relative_to(root))
        dose = "noisy" if re.search(args.low, relative) else "clean" if re.search(args.full, relative) else None
        patient = re.search(args.patient, relative)
        if dose is None or patient is None:
            leave_out("file of unknown dose or patient", path)
        elif path.suffix.lower() in DICOM:
            scans[patient.group(1)][dose].append(path)
        else:
            files = images[patient.group(1), _name_without_dose(path, args)]
            if dose in files:
                raise DataError(f"{path} and {files[dose]} are the same slice at the same dose; remove one")
            files[dose] = path
    pairs = _image_pairs(images) + [
        pair for patient, doses in scans.items() for pair in _scan_pairs(patient, doses, root)
    ]
    if not pairs:
        count = len(images) + sum(len(paths) for doses in scans.values() for paths in doses.values())
        raise DataError(f"{root}: holds {count} slices, none in both doses; see --low, --full and --patient")
    return sorted(pairs, key=lambda pair: (pair.patient, pair.key))


def _name_without_dose(path: Path, args: argparse.Namespace) -> str:
    """What identifies an image in both doses: its name without the words for the dose."""
    name = re.sub(args.full, "", re.sub(args.low, "", path.stem))
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")


def _image_pairs(images: dict[tuple[str, str], dict[str, Path]]) -> list[DosePair]:
    pairs = []
    for (patient, name), files in images.items():
        if len(files) == 2:
            pairs.append(DosePair(patient, f"{patient}-{name}", files["noisy"], files["clean"]))
        else:
            leave_out("slice without partner", next(iter(files.values())))
    return pairs


def _scan_pairs(patient: str, doses: dict[str, list[Path]], root: Path) -> list[DosePair]:
    """The slices of a patient that both doses have. Raises DataError where a dose has several series."""
    if len(doses) < 2:
        for paths in doses.values():
            leave_out("scan without partner", f"{patient} ({len(paths)} slices)")
        return []
    contrasts = {}
    for dose in ("clean", "noisy"):
        series = find_series((frame for path in doses[dose] for frame in read_frames(path)), root)
        if len(series) > 1:
            labels = "; ".join(each.label for each in series[:6])
            raise DataError(f"{root}: {patient} has {len(series)} series of the dose for {dose}, expected 1: {labels}")
        contrasts[dose] = series[0]
    subject = Subject(patient, patient, contrasts)
    warn_of_gaps(subject)
    paired = pair_slices(subject, SAME_POSITION_MM)
    pairs = []
    for number, position in enumerate(paired["clean"].positions_mm):
        noisy, clean = (replace(paired[dose], frames=(paired[dose].frames[number],)) for dose in ("noisy", "clean"))
        text = f"{round(position, 2) + 0.0:+09.2f}".replace(".", "_")
        pairs.append(DosePair(patient, f"{patient}-{text}", noisy, clean))
    return pairs


def _load(pair: DosePair, window: Window) -> list[Sample]:
    noisy, clean = _read(pair.noisy, window), _read(pair.clean, window)
    if noisy.shape != clean.shape:
        raise DataError(f"{pair.files[0]} is {noisy.shape} but {pair.files[1]} is {clean.shape}")
    return [Sample.of_arrays(pair.key, {"noisy": noisy, "clean": clean})]


def _read(place: Path | Series, window: Window) -> np.ndarray:
    image = read_series(place).pixels[0] if isinstance(place, Series) else image_files.read_image(place, grey=True)
    if image.dtype.kind == "u":
        return image  # not in Hounsfield units
    return ((image - window.low) / (window.high - window.low)).astype(np.float32)
