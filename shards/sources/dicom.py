r"""Build shards from DICOM series of co-registered contrasts. Needs pydicom.

Reads one folder per contrast, searched for .dcm, .ima and files without a suffix; enhanced and other multi-frame files
too. A patient has one series per contrast. Series are told apart by PatientID, series, size, orientation, pixel
spacing, image type and echo, and by sub-folder, acquisition, time and the like where the positions of their slices
repeat; --series chooses one. Where identities were removed, sub-folders of one name in both folders hold one patient.

Slices of the contrasts are paired one to one by position along the slice normal; slices without a partner within
--tolerance-mm are left out. Contrasts of another plane, orientation, pixel spacing or in-plane origin are refused.
MONOCHROME1 is inverted, and rescale slope and intercept are applied.

Writes a sample per slice, float32, with the fields named by --field. Each volume is divided by its 99.5th percentile.
Splits are by patient. With --repeats the series of a contrast are repeats, paired in order: each sample has the fields
NAME and NAME_second, for noise2noise and for measuring noise. Sub-folders of one patient need --patient-by then.

  python -m shards.build dicom --field pd=PD --field pdfs=PDFS --output DIR
  python -m shards.build dicom --field pd=T2 --field pdfs=T2 --series 'pd=echo 1' --series 'pdfs=echo 2' --output DIR
  python -m shards.build dicom --field noisy=SCANS --repeats --output DIR
"""

import argparse
import re
import zlib
from functools import partial
from pathlib import Path

from quell.configs.errors import ConfigError
from quell.shards.building import splits
from quell.shards.building.build_splits import Headers, build_splits
from quell.shards.building.items import Sample, WorkItem
from quell.shards.building.options import add_licence_argument
from quell.shards.image_files.dicom.series import Series, read_series
from quell.shards.sources.common.contrast_pairing import (
    Subject,
    choose_series,
    find_subjects,
    pair_slices,
    read_folder,
    series_by_patient,
    warn_of_gaps,
)
from quell.shards.sources.common.contrast_slices import (
    add_content_argument,
    add_units_arguments,
    slice_samples,
    stated_range,
    units_notes,
)
from quell.shards.sources.common.field_arguments import add_field_argument, parse_fields
from quell.shards.sources.common.repeats import add_repeats_argument, check_names, common_scales, find_repeats

SUFFIXES = (".dcm", ".ima", "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m shards.build dicom`."""
    add_field_argument(parser, "NAME=FOLDER", "a contrast and the folder of its files, with one series per patient")
    parser.add_argument(
        "--series",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="use only the series of a contrast whose description matches this regular expression, such as "
        "'pd=echo 1'; the error about several series lists their descriptions",
    )
    parser.add_argument(
        "--patient-by",
        choices=("auto", "id", "folder"),
        default="auto",
        help="what identifies a patient: PatientID, the sub-folder, or (auto) PatientID, and the sub-folder too where "
        "a patient has a series in each of several (default auto)",
    )
    parser.add_argument(
        "--tolerance-mm",
        type=float,
        default=0.5,
        help="slices of two contrasts are paired if their positions differ by at most this much (default 0.5)",
    )
    add_repeats_argument(
        parser,
        "the series of a contrast of one patient are repeats, told apart by series, acquisition or temporal position",
    )
    add_content_argument(parser, 0.0)
    add_units_arguments(parser)
    add_licence_argument(parser)
    splits.add_split_arguments(parser, "80,10,10")


def build(args: argparse.Namespace) -> Headers:
    """Write the splits to args.output; returns split -> index header."""
    roots = {name: Path(folder) for name, folder in parse_fields(args.field).items()}
    if args.repeats:
        check_names(list(roots))
    chosen = _chosen(args.series, roots)
    contrasts = {name: choose_series(read_folder(root, SUFFIXES), chosen.get(name)) for name, root in roots.items()}
    numbers: list[tuple[int, int] | None]
    if args.repeats:
        pairs = list(find_repeats(series_by_patient(contrasts, args.patient_by), args.patient_by))
        subjects, numbers = [pair.subject for pair in pairs], [pair.numbers for pair in pairs]
    else:
        subjects = find_subjects(contrasts, roots, args.patient_by)
        numbers = [None] * len(subjects)
    keys = _keys([subject.key for subject in subjects])
    items = [_item(*each, args) for each in zip(keys, subjects, numbers, strict=True)]
    meta = {"source": "dicom", "seed": args.seed, "licence": args.licence, **units_notes(args)}
    return build_splits(args, "dicom", splits.divide(items, args), meta)


def _chosen(texts: list[str], roots: dict[str, Path]) -> dict[str, str]:
    chosen = {}
    for text in texts:
        name, found, pattern = text.partition("=")
        if not found or name not in roots:
            raise ConfigError(f"--series {text}: expected NAME=TEXT with one of the fields {', '.join(roots)}")
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"--series {text}: not a regular expression ({error})") from error
        chosen[name] = pattern
    return chosen


def _keys(patients: list[str]) -> list[str]:
    """Keys of samples: the patients without letters that a key cannot have; a checksum tells equal ones apart."""
    plain = [
        "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in patient) for patient in patients
    ]
    return [
        f"{key}-{zlib.crc32(patient.encode()):08x}" if plain.count(key) > 1 else key
        for key, patient in zip(plain, patients, strict=True)
    ]


def _item(key: str, subject: Subject, repeats: tuple[int, int] | None, args: argparse.Namespace) -> WorkItem:
    warn_of_gaps(subject)
    contrasts = pair_slices(subject, args.tolerance_mm)
    files = tuple(dict.fromkeys(frame.path for series in contrasts.values() for frame in series.frames))
    return WorkItem(key, subject.group, partial(_load, key, contrasts, args, repeats), files)


def _load(
    key: str, contrasts: dict[str, Series], args: argparse.Namespace, repeats: tuple[int, int] | None
) -> list[Sample]:
    stacks = {name: read_series(series) for name, series in contrasts.items()}
    volumes = {name: stack.pixels for name, stack in stacks.items()}
    notes: dict[str, object] = {}
    if repeats is not None:
        notes = {"repeats": list(repeats), "series": {name: series.label for name, series in contrasts.items()}}
    return slice_samples(
        key,
        volumes,
        least_content=args.least_content,
        keep_units=args.keep_units,
        suggested_range=stated_range(stacks.values()),
        scales=None if repeats is None else common_scales(key, volumes),
        notes=notes,
    )
