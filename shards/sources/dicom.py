"""Build shards from DICOM series of co-registered contrasts. Needs pydicom.

Reads one folder per contrast, searched for .dcm, .ima and files without a suffix. Files are grouped by PatientID (or
the name of their folder where it is missing); a patient has one series per contrast. Slices of the contrasts are paired
by position along the slice normal; slices without a partner within --tolerance-mm are left out.

Writes a sample per slice, float32, with the fields named by --field. Each volume is divided by its 99.5th percentile.
Splits are by patient.

  python -m shards.build dicom --field pd=PD --field pdfs=PDFS --output DIR
"""

import argparse
from collections import defaultdict
from functools import partial
from pathlib import Path

from configs.errors import DataError
from shards.building import splits
from shards.building.build_splits import Headers, build_splits
from shards.building.items import Sample, WorkItem
from shards.building.options import add_licence_argument
from shards.sources.common.contrast_slices import UNITS, add_content_argument, slice_samples
from shards.sources.common.dicom_series import DicomSlice, list_files, read_slice_header, read_volume
from shards.sources.common.field_arguments import add_field_argument, parse_fields

Series = dict[str, list[DicomSlice]]
"""Slices by patient, or by contrast."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m shards.build dicom`."""
    add_field_argument(parser, "NAME=FOLDER", "a contrast and the folder of its files, with one series per patient")
    parser.add_argument(
        "--tolerance-mm",
        type=float,
        default=0.5,
        help="slices of two contrasts are paired if their positions differ by at most this much (default 0.5)",
    )
    add_content_argument(parser, 0.0)
    add_licence_argument(parser)
    splits.add_split_arguments(parser, "80,10,10")


def build(args: argparse.Namespace) -> Headers:
    """Write the splits to args.output; returns split -> index header."""
    contrasts = {name: _by_patient(Path(folder)) for name, folder in parse_fields(args.field).items()}
    patients = sorted(set.intersection(*(set(series) for series in contrasts.values())))
    if not patients:
        raise DataError(
            f"no patient has all of the contrasts {', '.join(contrasts)}; their PatientID, or else the names of their "
            "folders, must agree"
        )
    items = [
        _item(patient, {name: series[patient] for name, series in contrasts.items()}, args) for patient in patients
    ]
    meta = {"source": "dicom", "data_range": 1.0, "seed": args.seed, "licence": args.licence, "units": UNITS}
    return build_splits(args, "dicom", splits.divide(items, args), meta)


def _by_patient(folder: Path) -> Series:
    """The slices of one contrast by patient. Raises DataError where a patient has several series."""
    slices: Series = defaultdict(list)
    for path in list_files(folder):
        header = read_slice_header(path)
        slices[header.patient].append(header)
    for patient, headers in slices.items():
        series = {header.series for header in headers}
        if len(series) > 1:
            raise DataError(f"{folder}: patient {patient} has {len(series)} series, expected 1; remove the others")
    return dict(slices)


def _item(patient: str, contrasts: Series, args: argparse.Namespace) -> WorkItem:
    key = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in patient)
    files = tuple(header.path for slices in contrasts.values() for header in slices)
    return WorkItem(key, patient, partial(_load, key, contrasts, args), files)


def _load(key: str, contrasts: Series, args: argparse.Namespace) -> list[Sample]:
    paired = _pair_slices(contrasts, args.tolerance_mm)
    if not all(paired.values()):
        raise DataError(f"{key}: no slice positions of {', '.join(contrasts)} agree within {args.tolerance_mm} mm")
    volumes = {name: read_volume(slices) for name, slices in paired.items()}
    return slice_samples(key, volumes, least_content=args.least_content)


def _pair_slices(contrasts: Series, tolerance_mm: float) -> Series:
    """For every position of the first contrast the nearest slice of each, where all are within the tolerance."""
    first = next(iter(contrasts.values()))
    paired: Series = {name: [] for name in contrasts}
    for position in sorted(header.position_mm for header in first):

        def distance(header: DicomSlice, position: float = position) -> float:
            return abs(header.position_mm - position)

        nearest = {name: min(slices, key=distance) for name, slices in contrasts.items()}
        if all(distance(header) <= tolerance_mm for header in nearest.values()):
            for name, header in nearest.items():
                paired[name].append(header)
    return paired
