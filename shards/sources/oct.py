"""Retinal OCT as published: noisy frames and registered averages, split by subject.

Layouts, recognised by their names:
- DUKE28, `N/{test,average}.tif`, with or without neighbouring frames `N/{1..4}.tif` (Fang et al., IEEE TMI 2013);
- DUKE17, `N/N_Raw Image.tif` and `N/N_Averaged Image.tif` (Fang et al., Biomed. Opt. Express 2012);
- PKU37, `noisy/SSSSFF.tif` and `clean/SSSS.tif` (subject SSSS, frame FF);
- three text lists of noisy, other noisy and clean files (--lists A.txt B.txt C.txt), as TCFL's code reads them.

Fields: noisy, clean; with more frames of a subject noisy_1, noisy_2, ... (--frames together) or one sample per frame
with the subject's next frame as noisy_other (--frames separate).

In some subjects of DUKE28 the average shows another place than its frame, off along depth and beyond what a shift
mends. `duke_sdoct_split.csv` keeps those out of the test subjects; it is the default where all its subjects are found.
"""

import argparse
import json
import re
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from configs.errors import ConfigError, DataError
from configs.support.arguments import whole_number
from shards.building import assemble, images, splits
from shards.building.assemble import Item
from shards.reading.shard_set import ShardSet
from shards.sources.common import registration

PARTS = "70,15,15"
AUTO = "auto"
DUKE_SPLIT = Path(__file__).with_name("duke_sdoct_split.csv")
"""Lines `subject-N,split` for twelve subjects of DUKE28; 9, 12, 16 and 17 have an average of another place."""


class Subject(NamedTuple):
    """What one subject's files are."""

    name: str
    frames: tuple[Path, ...]
    """Noisy; the first is the one the average belongs to."""
    clean: Path
    exact: bool
    """Whether every frame shows the same place as the average; in DUKE28 the neighbours do not."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m shards.build oct`."""
    parser.add_argument("--input", help="folder in one of the published layouts")
    parser.add_argument(
        "--lists",
        nargs=3,
        metavar=("NOISY", "OTHER", "CLEAN"),
        help="text files with one image path a line, as TCFL's code reads them; images are not paired",
    )
    parser.add_argument(
        "--frames",
        choices=("auto", "together", "separate"),
        default="auto",
        help="one sample a subject, or one a frame; auto: separate where a subject has over 5 frames",
    )
    parser.add_argument(
        "--register",
        type=whole_number(0),
        default=0,
        metavar="ROWS",
        help="align frames with the average along depth, up to so many rows, and report the shifts",
    )
    parser.add_argument("--licence", default="not stated; see where the images come from", help="licence note")
    splits.add_argument(parser, AUTO, f"{DUKE_SPLIT.name} for subjects it lists if all are there, {PARTS} for others")


def build(args: argparse.Namespace) -> dict[str, Any]:
    """Write the splits below args.output; returns split -> index header."""
    meta = {
        "source": "oct",
        "data_range": 1.0,
        "seed": args.seed,
        "licence": args.licence,
        "noise": "speckle of the instrument",
        "register": args.register,
    }
    known = splits.read(DUKE_SPLIT) if args.split == AUTO and not args.split_file else {}
    args.split = PARTS if args.split == AUTO else args.split
    if args.lists:
        return assemble.write(args, "oct", _listed(args), {**meta, "paired": False})
    if not args.input:
        raise ConfigError("give --input FOLDER or --lists NOISY OTHER CLEAN")
    subjects = find(Path(args.input))
    names = {subject.name for subject in subjects}
    if known and known.keys() <= names and not any(subject.exact for subject in subjects):
        meta["split"] = f"subjects as listed in {DUKE_SPLIT.relative_to(DUKE_SPLIT.parents[2])}"
        print(f"split: {meta['split']} (--split or --split-file override it)")
    else:
        known = {}
    home = splits.assign(names - known.keys(), args) | known
    separate = args.frames == "separate" or (args.frames == "auto" and max(len(s.frames) for s in subjects) > 5)
    chosen: dict[str, list[Item]] = {split: [] for split in splits.NAMES}
    for subject in subjects:
        split = home[subject.name]
        chosen[split] += _separate(subject, split, args) if separate else [_together(subject, subjects, args)]
    headers = assemble.write(args, "oct", chosen, {**meta, "frames": "separate" if separate else "together"})
    if args.register and headers:
        _report(Path(args.output), list(headers))
    return headers


def find(root: Path) -> list[Subject]:
    """The subjects below a folder, in order of their names. Raises DataError when no layout fits."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    if (root / "noisy").is_dir() and (root / "clean").is_dir():
        return _pku(root)
    found = [
        subject
        for folder in sorted(root.iterdir(), key=_number)
        if folder.is_dir()
        if (subject := _duke(folder)) is not None
    ]
    if not found:
        raise DataError(
            f"{root}: no subject folders with test.tif and average.tif or `N_Raw Image.tif`, and no noisy/ "
            "and clean/; for other layouts use the source `folder`"
        )
    return found


def _number(path: Path) -> tuple[int, str]:
    digits = re.sub(r"\D", "", path.name)
    return int(digits) if digits else -1, path.name


def _duke(folder: Path) -> Subject | None:
    name = f"subject-{folder.name}"
    if (folder / "average.tif").is_file() and (folder / "test.tif").is_file():
        near = sorted((path for path in folder.glob("*.tif") if path.stem.isdigit()), key=_number)
        return Subject(name, (folder / "test.tif", *near), folder / "average.tif", exact=False)
    raw = folder / f"{folder.name}_Raw Image.tif"
    average = folder / f"{folder.name}_Averaged Image.tif"
    return Subject(name, (raw,), average, exact=True) if raw.is_file() and average.is_file() else None


def _pku(root: Path) -> list[Subject]:
    cleans = {path.stem: path for path in images.files(root / "clean")}
    frames: dict[str, list[Path]] = {}
    for path in images.files(root / "noisy"):
        if path.stem[:-2] not in cleans:
            raise DataError(f"{path}: no clean/{path.stem[:-2]}.tif for this frame (names are SSSSFF.tif and SSSS.tif)")
        frames.setdefault(path.stem[:-2], []).append(path)
    return [Subject(f"subject-{name}", tuple(frames[name]), cleans[name], exact=True) for name in sorted(frames)]


def _together(subject: Subject, subjects: list[Subject], args: argparse.Namespace) -> Item:
    """One sample: as many further frames as every subject has."""
    more = min(len(one.frames) for one in subjects) - 1
    files = {
        "noisy": subject.frames[0],
        "clean": subject.clean,
        **{f"noisy_{number}": path for number, path in enumerate(subject.frames[1 : more + 1], 1)},
    }
    return Item(subject.name, subject.name, partial(_load, subject.name, files, args), tuple(files.values()))


def _separate(subject: Subject, split: str, args: argparse.Namespace) -> list[Item]:
    """One sample a frame. Neighbours that show another place than the average only train, they do not measure."""
    frames = subject.frames if subject.exact or split == "train" else subject.frames[:1]
    items = []
    for number, path in enumerate(frames):
        files = {"noisy": path, "clean": subject.clean}
        if len(subject.frames) > 1:
            files["noisy_other"] = subject.frames[(number + 1) % len(subject.frames)]
        key = f"{subject.name}-{path.stem}".replace(" ", "_").replace(".", "-")
        items.append(Item(key, subject.name, partial(_load, key, files, args), tuple(files.values())))
    return items


def _load(key: str, files: dict[str, Path], args: argparse.Namespace) -> list[assemble.Sample]:
    found = images.load_fields(files, grey=True)
    if not args.register:
        return assemble.one(key, found)
    found, rows = registration.align(found, args.register)
    return assemble.one(key, found, shift_rows=rows)


def _report(output: Path, names: list[str]) -> None:
    """registration.json: for each sample the rows by which the average lies deeper than each frame."""
    rows = {}
    for name in names:
        shards = ShardSet.open(output / name)
        rows.update({shards.key(i): shards.json(i)["shift_rows"] for i in range(len(shards))})
        shards.files.close()
    (output / "registration.json").write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _listed(args: argparse.Namespace) -> dict[str, list[Item]]:
    """Unpaired samples from TCFL's lists: every noisy image once, beside it a clean image in turn."""
    noisy_a, noisy_b, clean = (
        [Path(args.lists[0]).parent / line.strip() for line in _lines(name)] for name in args.lists
    )
    noisy = sorted({*noisy_a, *noisy_b})
    cleans = sorted(set(clean))
    home = splits.assign([str(path) for path in noisy], args)
    clean_home = splits.assign([str(path) for path in cleans], args)
    chosen: dict[str, list[Item]] = {}
    for split in splits.NAMES:
        mine = [path for path in noisy if home[str(path)] == split]
        partners = [path for path in cleans if clean_home[str(path)] == split]
        if mine and not partners:
            raise DataError(f"{args.lists[2]}: {len(cleans)} clean images leave none for {split}; change --split")
        chosen[split] = [
            _unpaired(number, path, partners[number % len(partners)], args) for number, path in enumerate(mine)
        ]
    return chosen


def _unpaired(number: int, noisy: Path, clean: Path, args: argparse.Namespace) -> Item:
    key = f"{number:05d}-{images.key_of(noisy)}".replace(" ", "_")
    files = {"noisy": noisy, "clean": clean}
    return Item(
        key, str(noisy), lambda: assemble.one(key, images.load_fields(files, grey=True), paired=False), (noisy, clean)
    )


def _lines(name: str) -> list[str]:
    try:
        return [line for line in Path(name).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{name}: cannot be read ({getattr(error, 'strerror', 'not UTF-8 text')})") from error
