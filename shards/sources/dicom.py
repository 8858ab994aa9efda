"""DICOM series of co-registered contrasts: one folder per contrast, one sub-folder (or PatientID) per patient.

  python -m shards.build dicom --field pd=PD --field pdfs=PDFS --output DIR

Slices pair by their position along the slice normal. Needs pydicom.
"""

import argparse
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import DataError
from shards.building import assemble, splits
from shards.building.assemble import Item
from shards.sources.common import dicom_series, stacks
from shards.sources.common.dicom_series import Slice

Series = dict[str, list[Slice]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m shards.build dicom`."""
    parser.add_argument(
        "--field",
        action="append",
        required=True,
        metavar="NAME=FOLDER",
        help="a contrast and the folder of its files, one series per patient",
    )
    parser.add_argument(
        "--tolerance-mm",
        type=float,
        default=0.5,
        help="slices whose positions differ by less belong together (default 0.5)",
    )
    parser.add_argument(
        "--least-content",
        type=float,
        default=0.0,
        metavar="F",
        help="leave out slices with less than this share of bright pixels (default 0)",
    )
    parser.add_argument("--licence", default="not stated", help="licence note for the shards")
    splits.add_argument(parser, "80,10,10")


def build(args: argparse.Namespace) -> dict[str, Any]:
    """Write the splits below args.output; returns split -> index header."""
    contrasts = {name: _patients(folder) for name, folder in stacks.fields(args.field).items()}
    patients = sorted(set.intersection(*(set(found) for found in contrasts.values())))
    if not patients:
        raise DataError(f"no patient is in all of {', '.join(contrasts)}; PatientID or the folder's name must agree")
    items = [_item(patient, {name: found[patient] for name, found in contrasts.items()}, args) for patient in patients]
    home = splits.assign(patients, args)
    chosen = {split: [item for item in items if home[item.group] == split] for split in splits.NAMES}
    meta = {
        "source": "dicom",
        "data_range": 1.0,
        "seed": args.seed,
        "licence": args.licence,
        "units": "each volume divided by its 99.5th percentile",
    }
    return assemble.write(args, "dicom", chosen, meta)


def _patients(folder: Path) -> Series:
    """Slices by patient; a patient with two series in one contrast is refused."""
    found: Series = defaultdict(list)
    for path in dicom_series.files(folder):
        one = dicom_series.describe(path)
        found[one.patient].append(one)
    for patient, series in found.items():
        if len({one.series for one in series}) > 1:
            raise DataError(f"{folder}: patient {patient} has {len({one.series for one in series})} series; keep one")
    return dict(found)


def _item(patient: str, series: Series, args: argparse.Namespace) -> Item:
    key = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in patient)
    origin = tuple(one.path for slices in series.values() for one in slices)
    return Item(key, patient, partial(_load, key, series, args), origin)


def _load(key: str, series: Series, args: argparse.Namespace) -> list[assemble.Sample]:
    first = next(iter(series.values()))
    places = sorted(one.position_mm for one in first)
    matched: Series = {name: [] for name in series}
    for place in places:
        near = {name: min(slices, key=lambda one: abs(one.position_mm - place)) for name, slices in series.items()}
        if all(abs(one.position_mm - place) <= args.tolerance_mm for one in near.values()):
            for name, one in near.items():
                matched[name].append(one)
    if not matched[next(iter(series))]:
        raise DataError(f"{key}: no slice positions of {', '.join(series)} agree within {args.tolerance_mm} mm")
    volumes: dict[str, np.ndarray] = {name: dicom_series.volume(slices) for name, slices in matched.items()}
    return stacks.slices(key, volumes, least_content=args.least_content)
