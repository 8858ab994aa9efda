"""fastMRI knees as PD and PDFS pairs, or the older layout of paired .h5 files whose every dataset is a slice.

fastMRI does not mark which PD and PDFS volumes belong together. Pairs come from a CSV (`pd,pdfs[,score]`), from
`patient_id`, or from the similarity of edges; in every case each pair is scored and written to pairing.csv, .json and
.png to be reviewed, and doubtful pairs are refused until they are accepted, dropped or corrected in the CSV.

  python -m shards.build fastmri --input singlecoil_train --pair-by similarity --review --output DIR    look first
  python -m shards.build fastmri --input singlecoil_train --pair-by csv --pairs DIR/pairing.csv --output DIR
  python -m shards.build fastmri --layout keyed --input ROOT --output DIR     ROOT[/split]/{pd,pdfs}/*.h5

fastMRI's licence forbids giving the data on; that holds for the shards too.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import ConfigError, DataError
from shards.building import assemble, splits
from shards.building.assemble import Item
from shards.sources.common import keyed, pairing
from shards.sources.common import volumes as _volumes
from shards.sources.common.pairing import Pair
from shards.sources.common.volumes import Volume

LICENCE = "fastMRI data use agreement: research and education only, no redistribution, of shards neither"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m shards.build fastmri`."""
    parser.add_argument("--input", required=True, nargs="+", help="folders searched for .h5 files")
    parser.add_argument(
        "--layout",
        choices=("fastmri", "keyed"),
        default="fastmri",
        help="fastmri: published files; keyed: [split/]{pd,pdfs}/*.h5, every dataset a slice",
    )
    parser.add_argument("--pair-by", choices=("csv", "patient", "similarity"), help="where the pairs come from")
    parser.add_argument("--pairs", metavar="CSV", help="lines pd,pdfs[,score] with file names (--pair-by csv)")
    parser.add_argument(
        "--least-score",
        type=float,
        default=0.4,
        metavar="S",
        help="pairs whose edges correlate less are doubtful; contrasts of a real knee reach 0.93, its "
        "slices two apart 0.57 (default 0.4)",
    )
    parser.add_argument(
        "--doubtful",
        choices=("refuse", "drop", "accept"),
        default="refuse",
        help="what to do with doubtful pairs (default refuse)",
    )
    parser.add_argument("--review", action="store_true", help="write the pairing report and stop")
    parser.add_argument("--complex", action="store_true", help="complex images from single-coil k-space")
    parser.add_argument(
        "--by-folder",
        action="store_true",
        help="splits from folders named *train*, *val*, *test* instead of by patient and --seed",
    )
    splits.add_argument(parser, "80,10,10")


def build(args: argparse.Namespace) -> dict[str, Any]:
    """Write the splits below args.output; returns split -> index header."""
    if args.layout == "keyed":
        return keyed.build(args)
    if args.pair_by is None or (args.pair_by == "csv") != bool(args.pairs):
        raise ConfigError(
            "fastMRI does not mark pairs: say --pair-by patient, --pair-by similarity, or --pair-by csv "
            "with --pairs FILE"
        )
    volumes = [_volumes.describe(path) for path in _files(args.input)]
    pairs = _pairs(args, volumes)
    if args.review or not args.dry_run:
        pairing.report(Path(args.output), pairs, volumes, args.least_score)
    if args.review:
        print(f"{len(pairs)} pairs of {len(volumes)} volumes; see {Path(args.output) / 'pairing.png'} and pairing.csv")
        return {}
    kept = _trusted(args, pairs)
    groups = _joined_patients(kept)
    if args.by_folder:
        home = {pair.pd.path: _folder_split(pair) for pair in kept}
    else:
        drawn = splits.assign(groups.values(), args)
        home = {pair.pd.path: drawn[groups[pair.pd.path]] for pair in kept}
    chosen = {
        split: [_item(pair, groups[pair.pd.path], args) for pair in kept if home[pair.pd.path] == split]
        for split in splits.NAMES
    }
    meta = {
        "source": "fastmri",
        "data_range": 1.0,
        "seed": args.seed,
        "licence": LICENCE,
        "pair_by": args.pair_by,
        "least_score": args.least_score,
        "complex": args.complex,
        "units": "each volume divided by its greatest magnitude",
    }
    return assemble.write(args, "fastmri", chosen, meta)


def _files(folders: list[str]) -> list[Path]:
    found = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder")
        found += sorted(folder.rglob("*.h5"))
    if not found:
        raise DataError(f"{', '.join(folders)}: no .h5 files")
    return found


def _pairs(args: argparse.Namespace, volumes: list[Volume]) -> list[Pair]:
    if args.pair_by == "csv":
        return pairing.by_list(Path(args.pairs), volumes)
    return pairing.by_patient(volumes) if args.pair_by == "patient" else pairing.by_similarity(volumes)


def _trusted(args: argparse.Namespace, pairs: list[Pair]) -> list[Pair]:
    """The pairs to build from, after what --doubtful says."""
    good = [pair for pair in pairs if not pair.doubtful(args.least_score)]
    if len(good) < len(pairs) and args.doubtful == "refuse":
        worst = min((pair for pair in pairs if pair not in good), key=lambda pair: pair.score)
        names = f"{worst.pd.path.stem} and {worst.pdfs.path.stem}"
        raise DataError(
            f"{len(pairs) - len(good)} of {len(pairs)} pairs are doubtful (edges correlate below "
            f"{args.least_score}, or with another volume as well), e.g. {names} at {worst.score:.2f}: look "
            f"at {Path(args.output) / 'pairing.png'}, then give a corrected --pairs, or --doubtful drop or "
            "accept"
        )
    kept = pairs if args.doubtful == "accept" else good
    if not kept:
        raise DataError("no pair of a PD (CORPD_FBK) and a PDFS (CORPDFS_FBK) volume was found")
    return kept


def _joined_patients(pairs: list[Pair]) -> dict[Path, str]:
    """PD volume -> group; patients that meet in a pair are one group, so that none is in two splits."""
    home: dict[str, str] = {}

    def root(patient: str) -> str:
        while home.setdefault(patient, patient) != patient:
            patient = home[patient]
        return patient

    for pair in pairs:
        a, b = sorted((root(pair.pd.patient), root(pair.pdfs.patient)))
        home[b] = a
    return {pair.pd.path: root(pair.pd.patient) for pair in pairs}


def _folder_split(pair: Pair) -> str:
    for part in reversed(pair.pd.path.parent.parts):
        for split in splits.NAMES:
            if split in part.lower():
                return split
    raise DataError(f"{pair.pd.path}: no folder above it is named after train, val or test; leave out --by-folder")


def _item(pair: Pair, group: str, args: argparse.Namespace) -> Item:
    return Item(
        f"{pair.pd.path.stem}-{pair.pdfs.path.stem}".replace(".", "-"),
        group,
        partial(_load, pair, args),
        (pair.pd.path, pair.pdfs.path),
    )


def _load(pair: Pair, args: argparse.Namespace) -> list[assemble.Sample]:
    read = _volumes.complex_images if args.complex else _volumes.magnitude
    images = {"pd": read(pair.pd.path), "pdfs": read(pair.pdfs.path)}
    if images["pd"].shape[1:] != images["pdfs"].shape[1:]:
        raise DataError(
            f"{pair.pd.path} has slices of {images['pd'].shape[1:]} pixels but {pair.pdfs.path} of "
            f"{images['pdfs'].shape[1:]}"
        )
    scales = {name: float(np.abs(volume).max()) or 1.0 for name, volume in images.items()}
    samples = []
    for number in pair.slices:
        parts = {
            "pd": images["pd"][number] / scales["pd"],
            "pdfs": images["pdfs"][number + pair.offset] / scales["pdfs"],
        }
        key = f"{pair.pd.path.stem}-{number:03d}".replace(".", "-")
        samples += assemble.one(
            key,
            {name: image.astype(images[name].dtype) for name, image in parts.items()},
            pd_file=pair.pd.path.stem,
            pdfs_file=pair.pdfs.path.stem,
            slice=number,
            scales=scales,
            score=round(pair.score, 4),
        )
    return samples
