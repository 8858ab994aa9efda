"""Build shards of retinal OCT from published data sets: noisy frames and registered averages, split by subject.

Reads one of these layouts, recognised by its names:

- DUKE28: `N/{test,average}.tif`, optionally neighbouring frames `N/{1..4}.tif` (Fang et al., IEEE TMI 2013);
- DUKE17: `N/N_Raw Image.tif` and `N/N_Averaged Image.tif` (Fang et al., Biomed. Opt. Express 2012);
- PKU37: `noisy/SSSSFF.tif` and `clean/SSSS.tif` (subject SSSS, frame FF);
- three text files that list noisy, other noisy and clean images (--lists A.txt B.txt C.txt), in the format of TCFL's
  code; noisy and clean images are not paired.

Writes `noisy` and `clean` in the dtype of the files (uint8 is scaled to [0, 1] when it is read for training). Further
frames of a subject are either fields of the same sample, `noisy_1`, `noisy_2`, ... (--frames together), or samples of
their own, with the subject's next frame as `noisy_other` (--frames separate).

In some subjects of DUKE28 the average shows another location than its frame, and no shift along depth can correct that.
`duke_sdoct_split.csv` keeps those subjects out of test; it is the default where all of its subjects are present.

  python -m shards.build oct --input oct_duke_sdoct --register 8 --output DIR
"""

import argparse
import json
import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

from quell.configs.errors import ConfigError, DataError
from quell.configs.support.arguments import whole_number
from quell.configs.support.atomic_files import write_atomically
from quell.configs.support.logs import get_logger
from quell.shards.building import splits
from quell.shards.building.build_splits import Headers, build_splits
from quell.shards.building.image_files import key_of, list_images, read_fields
from quell.shards.building.items import Sample, WorkItem
from quell.shards.building.options import add_data_range_argument, add_licence_argument, declared_range
from quell.shards.building.text_files import read_lines
from quell.shards.format.index import Meta
from quell.shards.listing.folders import is_junk
from quell.shards.listing.left_out import leave_out
from quell.shards.reading.shard_set import ShardSet
from quell.shards.sources.common import frame_registration

PARTS = "70,15,15"
AUTO = "auto"
MANY_FRAMES = 5
"""Subjects with more frames than this are stored one frame a sample, unless --frames says otherwise."""
DUKE_SPLIT = Path(__file__).with_name("duke_sdoct_split.csv")
"""Lines `subject-N,split` for twelve subjects of DUKE28; the averages of 9, 12, 16 and 17 show another location."""

log = get_logger(__name__)


class Subject(NamedTuple):
    """The files of one subject."""

    name: str
    frames: tuple[Path, ...]
    """Noisy frames, the one that the average belongs to first."""
    clean: Path
    is_same_location: bool
    """Whether every frame shows the same location as the average; in DUKE28 the neighbouring frames do not."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m shards.build oct`."""
    parser.add_argument("--input", help="folder in one of the published layouts")
    parser.add_argument(
        "--lists",
        nargs=3,
        metavar=("NOISY", "OTHER", "CLEAN"),
        help="text files with one image path a line, relative to the folder of NOISY",
    )
    parser.add_argument(
        "--frames",
        choices=("auto", "together", "separate"),
        default="auto",
        help="together: one sample per subject; separate: one per frame; auto: separate if a subject has more than "
        f"{MANY_FRAMES} frames (default auto)",
    )
    parser.add_argument(
        "--register",
        type=whole_number(0),
        default=0,
        metavar="ROWS",
        help="align frames with the average along depth, by at most this many rows, and write the shifts to "
        "registration.json (default 0: off)",
    )
    add_data_range_argument(parser, None, required=False, explained="1")
    add_licence_argument(parser, "not stated; see where the images come from")
    meaning = f"{DUKE_SPLIT.name} for the subjects it lists if all of them are present, {PARTS} for the others"
    splits.add_split_arguments(parser, AUTO, meaning)


def build(args: argparse.Namespace) -> Headers:
    """Write the splits to args.output; returns split -> index header."""
    meta: Meta = {
        "source": "oct",
        "data_range": declared_range(args),
        "seed": args.seed,
        "licence": args.licence,
        "noise": "speckle of the instrument",
        "register": args.register,
    }
    may_use_list = args.split == AUTO and not args.split_file
    args.split = PARTS if args.split == AUTO else args.split
    if args.lists:
        return build_splits(args, "oct", _unpaired_items(args), {**meta, "paired": False})
    if not args.input:
        raise ConfigError("give --input FOLDER or --lists NOISY OTHER CLEAN")
    subjects = find_subjects(Path(args.input))
    listed = _listed_splits(subjects) if may_use_list else {}
    if listed:
        meta["split"] = f"subjects as listed in {DUKE_SPLIT.relative_to(DUKE_SPLIT.parents[2])}"
        log.info(f"split: {meta['split']} (--split or --split-file override it)")
    split_of_subject = splits.assign({subject.name for subject in subjects} - listed.keys(), args) | listed
    most_frames = max(len(subject.frames) for subject in subjects)
    separate = args.frames == "separate" or (args.frames == "auto" and most_frames > MANY_FRAMES)
    items: dict[str, list[WorkItem]] = {split: [] for split in splits.NAMES}
    for subject in subjects:
        split = split_of_subject[subject.name]
        items[split] += _separate(subject, split, args) if separate else [_together(subject, subjects, args)]
    headers = build_splits(args, "oct", items, {**meta, "frames": "separate" if separate else "together"})
    if args.register and headers:
        _write_shifts(Path(args.output), list(headers))
    return headers


def find_subjects(root: Path) -> list[Subject]:
    """The subjects in a folder, in the order of their numbers. Raises DataError where no layout fits."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    if (root / "noisy").is_dir() and (root / "clean").is_dir():
        return _pku_subjects(root)
    subjects = []
    for entry in sorted(root.iterdir(), key=_number):
        subject = _duke_subject(entry) if entry.is_dir() else None
        if subject is not None:
            subjects.append(subject)
        elif is_junk(entry.name):
            leave_out("junk file", entry)
        else:
            leave_out("folder without frame and average" if entry.is_dir() else "file outside a folder", entry)
    if not subjects:
        raise DataError(
            f"{root}: expected folders N with test.tif and average.tif, or with `N_Raw Image.tif` and `N_Averaged "
            "Image.tif`, or the folders noisy and clean; for other layouts use the source `folder`"
        )
    return subjects


def _listed_splits(subjects: list[Subject]) -> dict[str, str]:
    """Subject -> split from DUKE_SPLIT if these subjects are of DUKE28, else nothing."""
    listed = splits.read_split_file(DUKE_SPLIT)
    is_duke28 = not any(subject.is_same_location for subject in subjects)
    return listed if is_duke28 and listed.keys() <= {subject.name for subject in subjects} else {}


def _number(path: Path) -> tuple[int, str]:
    digits = re.sub(r"\D", "", path.name)
    return int(digits) if digits else -1, path.name


def _duke_subject(folder: Path) -> Subject | None:
    """The subject of a folder in the layout of DUKE28 or DUKE17, else None."""
    name = f"subject-{folder.name}"
    if (folder / "average.tif").is_file() and (folder / "test.tif").is_file():
        neighbours = sorted((path for path in folder.glob("*.tif") if path.stem.isdigit()), key=_number)
        frames = (folder / "test.tif", *neighbours)
        return Subject(name, frames, folder / "average.tif", is_same_location=False)
    raw = folder / f"{folder.name}_Raw Image.tif"
    average = folder / f"{folder.name}_Averaged Image.tif"
    return Subject(name, (raw,), average, is_same_location=True) if raw.is_file() and average.is_file() else None


def _pku_subjects(root: Path) -> list[Subject]:
    clean = {path.stem: path for path in list_images(root / "clean")}
    frames: dict[str, list[Path]] = {}
    for path in list_images(root / "noisy"):
        subject = path.stem[:-2]
        if subject not in clean:
            raise DataError(f"{path}: there is no clean/{subject}.tif; expected frames SSSSFF.tif of subjects SSSS.tif")
        frames.setdefault(subject, []).append(path)
    for name in sorted(clean.keys() - frames.keys()):
        leave_out("average without frames", clean[name])
    return [
        Subject(f"subject-{name}", tuple(frames[name]), clean[name], is_same_location=True) for name in sorted(frames)
    ]


def _together(subject: Subject, subjects: list[Subject], args: argparse.Namespace) -> WorkItem:
    """One sample with as many further frames as every subject has, since all samples need the same fields."""
    further = min(len(each.frames) for each in subjects) - 1
    for path in subject.frames[further + 1 :]:
        leave_out("frame that not every subject has", path)
    files = {
        "noisy": subject.frames[0],
        "clean": subject.clean,
        **{f"noisy_{number}": path for number, path in enumerate(subject.frames[1 : further + 1], 1)},
    }
    return WorkItem(subject.name, subject.name, partial(_load, subject.name, files, args), tuple(files.values()))


def _separate(subject: Subject, split: str, args: argparse.Namespace) -> list[WorkItem]:
    """One sample per frame; frames that show another location than the average are used for training only."""
    frames = subject.frames if subject.is_same_location or split == "train" else subject.frames[:1]
    items = []
    for number, path in enumerate(frames):
        files = {"noisy": path, "clean": subject.clean}
        if len(subject.frames) > 1:
            files["noisy_other"] = subject.frames[(number + 1) % len(subject.frames)]
        key = f"{subject.name}-{path.stem}".replace(" ", "_").replace(".", "-")
        items.append(WorkItem(key, subject.name, partial(_load, key, files, args), tuple(files.values())))
    return items


def _load(key: str, files: dict[str, Path], args: argparse.Namespace) -> list[Sample]:
    fields = read_fields(files, grey=True)
    if not args.register:
        return [Sample.of_arrays(key, fields)]
    fields, shifts = frame_registration.align(fields, args.register)
    return [Sample.of_arrays(key, fields, shift_rows=shifts)]


def _write_shifts(output: Path, names: list[str]) -> None:
    """Write registration.json: for each sample, how many rows deeper the average is than each frame."""
    shifts = {}
    for name in names:
        shards = ShardSet.open(output / name)
        shifts.update({shards.key(i): shards.json(i)["shift_rows"] for i in range(len(shards))})
        shards.files.close()
    write_atomically(output / "registration.json", json.dumps(shifts, indent=1, sort_keys=True) + "\n")


def _unpaired_items(args: argparse.Namespace) -> dict[str, list[WorkItem]]:
    """The items of --lists: every noisy image once, with clean images of the same split in turn."""
    folder = Path(args.lists[0]).parent
    noisy_a, noisy_b, clean = (
        [folder / line.strip() for line in read_lines(Path(name)) if line.strip()] for name in args.lists
    )
    noisy, clean = sorted({*noisy_a, *noisy_b}), sorted(set(clean))
    split_of_noisy = splits.assign([str(path) for path in noisy], args)
    split_of_clean = splits.assign([str(path) for path in clean], args)
    items: dict[str, list[WorkItem]] = {}
    for split in splits.NAMES:
        images = [path for path in noisy if split_of_noisy[str(path)] == split]
        partners = [path for path in clean if split_of_clean[str(path)] == split]
        if images and not partners:
            raise DataError(
                f"{args.lists[2]}: lists {len(clean)} clean images, of which none falls into {split}; change --split"
            )
        items[split] = [
            _unpaired_item(number, path, partners[number % len(partners)]) for number, path in enumerate(images)
        ]
    return items


def _unpaired_item(number: int, noisy: Path, clean: Path) -> WorkItem:
    key = f"{number:05d}-{key_of(noisy)}".replace(" ", "_")

    def load() -> list[Sample]:
        return [Sample.of_arrays(key, read_fields({"noisy": noisy, "clean": clean}, grey=True), paired=False)]

    return WorkItem(key, str(noisy), load, (noisy, clean))
