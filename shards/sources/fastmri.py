"""Build shards of knee scans from fastMRI: pairs of PD and PDFS (fat-suppressed) slices.

Reads the published .h5 files, from all folders given by --input. fastMRI does not mark which PD and PDFS volumes are
from the same knee, so the pairs come from a CSV file (lines `pd,pdfs[,score]`), from patient_id, or from the similarity
of edges. Every pair is scored, and pairing.csv, pairing.json and pairing.png are written for review. Doubtful pairs
stop the build until they are accepted, dropped, or corrected in the CSV.

Writes `pd` and `pdfs`: magnitudes (float32), which are reconstruction_esc or, in files of several coils,
reconstruction_rss; or complex images from k-space with --complex (complex64). Several coils are prewhitened and
combined (shards/image_files/coils.py); what k-space states about the noise of the result is in stated_noise.npz. Each
volume is divided by its maximum magnitude. Splits are by patient.

  python -m shards.build fastmri --input singlecoil_train --pair-by similarity --review --output DIR    review first
  python -m shards.build fastmri --input singlecoil_train --pair-by csv --pairs DIR/pairing.csv --output DIR

`--layout keyed` reads another layout instead: ROOT[/split]/{pd,pdfs}/*.h5, paired by file name, every data set one
slice, images in stored units.

  python -m shards.build fastmri --layout keyed --input ROOT --output DIR

fastMRI's licence forbids redistribution, also of these shards.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from quell.configs.errors import ConfigError, DataError
from quell.shards.building import splits
from quell.shards.building.build_splits import Headers, build_splits
from quell.shards.building.items import Sample, WorkItem
from quell.shards.building.options import add_data_range_argument, declared_range
from quell.shards.image_files.fastmri import (
    FastmriVolume,
    image_name,
    is_multi_coil,
    read_combined,
    read_complex,
    read_description,
    read_magnitude,
)
from quell.shards.listing.folders import list_files
from quell.shards.listing.left_out import leave_out
from quell.shards.sources.common import keyed_slices, stated_noise
from quell.shards.sources.common.pairing_report import write_report
from quell.shards.sources.common.volume_pairing import VolumePair, pairs_by_patient, pairs_by_similarity, pairs_from_csv

LICENCE = "fastMRI data use agreement: research and education only, no redistribution, of shards neither"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m shards.build fastmri`."""
    parser.add_argument("--input", required=True, nargs="+", help="folders to search for .h5 files")
    parser.add_argument(
        "--layout",
        choices=("fastmri", "keyed"),
        default="fastmri",
        help="fastmri: the published files; keyed: [split/]{pd,pdfs}/*.h5, every data set one slice (default fastmri)",
    )
    parser.add_argument(
        "--pair-by", choices=("csv", "patient", "similarity"), help="how PD and PDFS volumes are paired"
    )
    parser.add_argument("--pairs", metavar="CSV", help="file with lines pd,pdfs[,score] of file names, for csv")
    parser.add_argument(
        "--least-score",
        type=float,
        default=0.4,
        metavar="S",
        help="pairs whose edges correlate less than this are doubtful; the two contrasts of a real knee reach 0.93, "
        "slices that are two apart 0.57 (default 0.4)",
    )
    parser.add_argument(
        "--doubtful",
        choices=("refuse", "drop", "accept"),
        default="refuse",
        help="what to do about doubtful pairs (default refuse: stop)",
    )
    parser.add_argument("--review", action="store_true", help="write the pairing report, and no shards")
    parser.add_argument(
        "--complex", action="store_true", help="store complex images, from k-space; several coils are combined"
    )
    parser.add_argument(
        "--by-folder",
        action="store_true",
        help="take the splits from folders whose names contain train, val or test, instead of --split",
    )
    add_data_range_argument(parser, None, required=False, explained="1")
    splits.add_split_arguments(parser, "80,10,10")


def build(args: argparse.Namespace) -> Headers:
    """Write the splits to args.output; returns split -> index header."""
    if args.layout == "keyed":
        return keyed_slices.build(args)
    if args.pair_by is None or (args.pair_by == "csv") != bool(args.pairs):
        raise ConfigError(
            "fastMRI does not mark pairs: give --pair-by patient, --pair-by similarity, or --pair-by csv with "
            "--pairs FILE"
        )
    volumes = [read_description(path) for path in _list_files(args.input)]
    pairs = _pair(args, volumes)
    output = Path(args.output)
    if args.review or not args.dry_run:
        write_report(output, pairs, volumes, args.least_score)
    if args.review:
        print(f"{len(pairs)} pairs of {len(volumes)} volumes; see {output / 'pairing.png'} and pairing.csv")
        return {}
    meta = {
        "source": "fastmri",
        "data_range": declared_range(args),
        "seed": args.seed,
        "licence": LICENCE,
        "pair_by": args.pair_by,
        "least_score": args.least_score,
        "complex": args.complex,
        "units": "each volume divided by its greatest magnitude",
    }
    usable = _usable(pairs, args)
    _note_left_out(volumes, pairs, usable)
    headers = build_splits(args, "fastmri", _divide(usable, args), meta)
    if args.complex and headers:
        stated_noise.write(output / next(iter(headers)), {"pd": usable[0].pd.path, "pdfs": usable[0].pdfs.path})
    return headers


def _list_files(folders: list[str]) -> list[Path]:
    return [file for folder in folders for file in list_files(Path(folder), (".h5",), recursive=True, what=".h5 files")]


def _pair(args: argparse.Namespace, volumes: list[FastmriVolume]) -> list[VolumePair]:
    if args.pair_by == "csv":
        return pairs_from_csv(Path(args.pairs), volumes)
    return pairs_by_patient(volumes) if args.pair_by == "patient" else pairs_by_similarity(volumes)


def _usable(pairs: list[VolumePair], args: argparse.Namespace) -> list[VolumePair]:
    """The pairs to build from, according to --doubtful."""
    certain = [pair for pair in pairs if not pair.is_doubtful(args.least_score)]
    if len(certain) < len(pairs) and args.doubtful == "refuse":
        worst = min((pair for pair in pairs if pair not in certain), key=lambda pair: pair.score)
        names = f"{worst.pd.path.stem} and {worst.pdfs.path.stem}"
        raise DataError(
            f"{len(pairs) - len(certain)} of {len(pairs)} pairs are doubtful (edges correlate by less than "
            f"{args.least_score}, or as well with another volume), e.g. {names} with {worst.score:.2f}: look at "
            f"{Path(args.output) / 'pairing.png'}, then correct the CSV and give it as --pairs, or give --doubtful "
            "drop or accept"
        )
    usable = pairs if args.doubtful == "accept" else certain
    if not usable:
        raise DataError("the input holds no pair of a PD (CORPD_FBK) and a PDFS (CORPDFS_FBK) volume")
    return usable


def _note_left_out(volumes: list[FastmriVolume], pairs: list[VolumePair], usable: list[VolumePair]) -> None:
    """Note the volumes and slices that no sample is built from."""
    in_pairs = {volume.path for pair in pairs for volume in (pair.pd, pair.pdfs)}
    for volume in volumes:
        if volume.path not in in_pairs:
            leave_out("volume without partner", volume.path, volume.contrast)
    for pair in pairs:
        if pair not in usable:
            leave_out("doubtful pair", f"{pair.pd.path} and {pair.pdfs.path}", f"edges correlate by {pair.score:.2f}")
    for pair in usable:
        partners = [number + pair.offset for number in pair.slices]
        for volume, used in ((pair.pd, list(pair.slices)), (pair.pdfs, partners)):
            for number in sorted(set(range(volume.slices)) - set(used)):
                leave_out("slice without partner", f"{volume.path}: slice {number}")


def _divide(pairs: list[VolumePair], args: argparse.Namespace) -> dict[str, list[WorkItem]]:
    """Split -> its pairs, by the folders they are in or by patient."""
    groups = _group_of_pairs(pairs)
    items = [_item(pair, group, args) for pair, group in zip(pairs, groups, strict=True)]
    if not args.by_folder:
        return splits.divide(items, args)
    split_of = [_folder_split(pair) for pair in pairs]
    return {name: [item for item, split in zip(items, split_of, strict=True) if split == name] for name in splits.NAMES}


def _group_of_pairs(pairs: list[VolumePair]) -> list[str]:
    """The group of each pair. Two patients that meet in a pair are in one group, so that neither is in two splits."""
    parents: dict[str, str] = {}

    def root(patient: str) -> str:
        while parents.setdefault(patient, patient) != patient:
            patient = parents[patient]
        return patient

    for pair in pairs:
        first, second = sorted((root(pair.pd.patient), root(pair.pdfs.patient)))
        parents[second] = first
    return [root(pair.pd.patient) for pair in pairs]


def _folder_split(pair: VolumePair) -> str:
    """The split that the nearest folder above the PD file is named after."""
    for part in reversed(pair.pd.path.parent.parts):
        for split in splits.NAMES:
            if split in part.lower():
                return split
    raise DataError(f"{pair.pd.path}: no folder above it is named after train, val or test; omit --by-folder")


def _item(pair: VolumePair, group: str, args: argparse.Namespace) -> WorkItem:
    return WorkItem(
        f"{pair.pd.path.stem}-{pair.pdfs.path.stem}".replace(".", "-"),
        group,
        partial(_load, pair, args),
        (pair.pd.path, pair.pdfs.path),
    )


def _load(pair: VolumePair, args: argparse.Namespace) -> list[Sample]:
    kinds = {path: is_multi_coil(path) for path in (pair.pd.path, pair.pdfs.path)}
    if args.complex and len(set(kinds.values())) > 1:
        several, single = sorted(kinds, key=lambda path: not kinds[path])
        raise DataError(f"{several} has k-space of several coils, but {single} does not: images of different kinds")
    if not args.complex and (names := (image_name(pair.pd.path), image_name(pair.pdfs.path)))[0] != names[1]:
        raise DataError(
            f"{pair.pd.path} holds {names[0]} but {pair.pdfs.path} holds {names[1]}: images of different kinds"
        )
    noise: dict[str, float] = {}
    if args.complex and kinds[pair.pd.path]:
        combined = {"pd": read_combined(pair.pd.path), "pdfs": read_combined(pair.pdfs.path)}
        pd, pdfs = (coils.images for coils in combined.values())
        noise = {name: coils.sigma for name, coils in combined.items()}
    else:
        read = read_complex if args.complex else read_magnitude
        pd, pdfs = read(pair.pd.path), read(pair.pdfs.path)
    if pd.shape[1:] != pdfs.shape[1:]:
        raise DataError(
            f"{pair.pd.path} has slices of {pd.shape[1]} x {pd.shape[2]} pixels but {pair.pdfs.path} has slices of "
            f"{pdfs.shape[1]} x {pdfs.shape[2]}"
        )
    scales = {name: float(np.abs(volume).max()) or 1.0 for name, volume in (("pd", pd), ("pdfs", pdfs))}
    samples = []
    for number in pair.slices:
        fields = {
            "pd": (pd[number] / scales["pd"]).astype(pd.dtype),
            "pdfs": (pdfs[number + pair.offset] / scales["pdfs"]).astype(pdfs.dtype),
        }
        notes: dict[str, object] = {
            "pd_file": pair.pd.path.stem,
            "pdfs_file": pair.pdfs.path.stem,
            "slice": number,
            "scales": scales,
            "score": round(pair.score, 4),
        }
        if noise:
            notes["noise_sigma"] = {name: sigma / scales[name] for name, sigma in noise.items()}
        key = f"{pair.pd.path.stem}-{number:03d}".replace(".", "-")
        samples.append(Sample(key, {f"{name}.npy": image for name, image in fields.items()}, notes))
    return samples
