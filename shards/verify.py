"""Check a data set of shards from its bytes to its splits: `python -m shards.verify DIR [--repair] [--report FILE]`.

DIR is one split or the folder above several. Errors end with exit code 4, warnings do not (unless --strict).
"""

import argparse
import json
import os
import sys
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import TypedDict

if not __package__:  # started as a script: import the package around this file, then what is where the user is
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    import quell  # noqa: F401

    sys.path[0] = ""

from quell.configs.errors import DataError, MachineError, run_command
from quell.configs.support import logs
from quell.configs.support.arguments import CommandParser
from quell.configs.support.atomic_files import write_atomically
from quell.configs.support.json_files import read_json
from quell.shards.format import index
from quell.shards.format.build_index import build_index, read_shard
from quell.shards.format.index import Meta
from quell.shards.reading.shard_set import ShardSet
from quell.shards.verifying import shard_bytes, side_files
from quell.shards.verifying.samples import Defect, SplitContent, check_samples, same_pixels
from quell.shards.verifying.turned_pairs import turned_pairs

SHOWN = 20
"""Defects of one kind that are printed; the report holds all."""

log = logs.get_logger(__name__)


class Report(TypedDict):
    """The content of the JSON report."""

    folder: str
    splits: dict[str, int]
    """Split -> number of samples."""
    errors: int
    warnings: int
    findings: list[dict[str, str]]
    """Each with severity, kind, where and says."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = CommandParser(
        prog="python -m shards.verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="a split, or the folder that holds the splits")
    parser.add_argument(
        "--repair", action="store_true", help="rebuild the index from the tars where it is missing, damaged or stale"
    )
    parser.add_argument("--report", metavar="FILE", help="write every defect to this JSON file")
    parser.add_argument("--strict", action="store_true", help="exit with code 4 on warnings too")
    logs.add_arguments(parser)
    args = parser.parse_args(arguments)
    logs.configure(args)

    def work() -> int:
        report = verify(Path(args.folder), repair=args.repair)
        _print(report)
        if args.report:
            _write(Path(args.report), report)
        failures = report["errors"] + (report["warnings"] if args.strict else 0)
        return DataError.exit_code if failures else 0

    return run_command(work)


def verify(folder: Path, *, repair: bool = False) -> Report:
    """Read every byte of a data set and collect its defects.

    Args:
        folder: One split, or the folder above several, which are then compared with each other.
        repair: Whether to rebuild an index that is missing, damaged or stale. Tars are never changed.

    Returns:
        The splits with their sizes, the defects (`findings`), and how many are errors and warnings.

    Raises:
        DataError: There are no shards.
        MachineError: An index cannot be written.
    """
    if any(folder.glob("*.tar")):
        splits = [folder]
    else:
        children = folder.iterdir() if folder.is_dir() else ()
        splits = sorted(child for child in children if child.is_dir() and _has_tars(child))
    if not splits:
        index.tars(folder)  # raises with what is wrong with the folder
    defects: list[Defect] = []
    opened: dict[str, ShardSet] = {}
    contents: dict[str, SplitContent] = {}
    for place in dict.fromkeys([folder, *splits]):
        defects += side_files.check(place)
    for split in splits:
        shards = _open(split, defects, repair)
        if shards is not None:
            opened[split.name], contents[split.name] = shards, check_samples(shards)
            defects += contents[split.name].defects
            named = {defect.where for defect in contents[split.name].defects}
            defects += [defect for defect in shard_bytes.check(shards) if defect.where not in named]
            if note := shard_bytes.unchecked(shards):
                log.warning("%s", note)
    defects = _with_turned_pairs(defects, contents)
    defects += _leaks(opened, contents)
    for shards in opened.values():
        shards.files.close()
    return {
        "folder": str(folder),
        "splits": {name: len(shards) for name, shards in opened.items()},
        "errors": sum(defect.severity == "error" for defect in defects),
        "warnings": sum(defect.severity == "warning" for defect in defects),
        "findings": [asdict(defect) for defect in defects],
    }


def _has_tars(folder: Path) -> bool:
    """Raises where the folder cannot be listed: Path.glob would yield nothing, and the split would be skipped."""
    return any(name.endswith(".tar") for name in os.listdir(folder))


def _open(split: Path, defects: list[Defect], repair: bool) -> ShardSet | None:
    """Open a split, after rebuilding its index where that is asked for and necessary.

    None where it cannot be opened; the reasons are added to `defects`.
    """
    try:
        shards = ShardSet.open(split, thorough=True)
        if not repair or not (_any_changed(shards) or shard_bytes.unchecked(shards)):
            return shards
    except DataError as error:
        if not repair:
            defects.append(Defect("error", "index", str(split), str(error)))
            defects += _unreadable_tars(split)
            return None
    unreadable = _unreadable_tars(split)
    if unreadable:
        defects += unreadable
        return None
    build_index(split, meta=_previous_meta(split))
    log.info("%s: rebuilt the index", split)
    return ShardSet.open(split)


def _any_changed(shards: ShardSet) -> bool:
    try:
        for number in range(len(shards.shards)):
            shards.files.check(number)
    except DataError:
        return True
    finally:
        shards.files.close()
    return False


def _unreadable_tars(split: Path) -> list[Defect]:
    """Shards that cannot be indexed, each with the reason."""
    defects = []
    for number, path in enumerate(index.tars(split)):
        try:
            read_shard(number, path)
        except DataError as error:
            defects.append(Defect("error", "shard", str(path), str(error)))
    return defects


def _previous_meta(split: Path) -> Meta | None:
    """The builder's notes, which the tars do not contain, from what is left of the previous index."""
    meta = read_json(split / index.HEADER).get("meta")
    return meta if isinstance(meta, dict) else None


def _with_turned_pairs(defects: list[Defect], contents: dict[str, SplitContent]) -> list[Defect]:
    """The defects, and the pairs that are mirrored, turned or inverted, of which 'doubtful pair' would say less."""
    reports, concerned = turned_pairs({split: content.pairs for split, content in contents.items()})
    explained = {f"{split}: {key}" for split, key in concerned}
    kept = [defect for defect in defects if defect.kind != "doubtful pair" or defect.where not in explained]
    return kept + [
        Defect(
            "warning",
            "turned pair" if report.is_turned else "inverted pair",
            f"{report.split}: {report.key}",
            report.says,
        )
        for report in reports
    ]


def _leaks(opened: dict[str, ShardSet], contents: dict[str, SplitContent]) -> list[Defect]:
    """Groups and images that are in two splits."""
    defects = []
    for a, b in combinations(contents, 2):
        groups_a, groups_b = contents[a].groups, contents[b].groups
        if shared := sorted(groups_a.keys() & groups_b.keys()):
            group = shared[0]
            says = f"{len(shared)} groups, e.g. {group}: {groups_a[group]} and {groups_b[group]}"
            defects.append(Defect("error", "group in two splits", f"{a} and {b}", says))
        images_a, images_b = contents[a].images, contents[b].images
        for stored_as in sorted(images_a.keys() & images_b.keys()):
            image_a, image_b = images_a[stored_as], images_b[stored_as]
            if same_pixels(opened[a], image_a, opened[b], image_b):
                key_a, key_b = opened[a].key(image_a.sample), opened[b].key(image_b.sample)
                says = f"{key_a}.{image_a.field} equals {key_b}.{image_b.field}"
                defects.append(Defect("error", "pixels in two splits", f"{a} and {b}", says))
    return defects


def _write(path: Path, report: Report) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(report, indent=1) + "\n")
    except OSError as error:
        raise MachineError(f"{path}: cannot write the report ({error.strerror}): choose another --report") from error


def _print(report: Report) -> None:
    counts: dict[str, int] = {}
    for defect in report["findings"]:
        kind = defect["kind"]
        counts[kind] = counts.get(kind, 0) + 1
        if counts[kind] <= SHOWN:
            where = "" if defect["says"].startswith(defect["where"]) else f"{defect['where']}: "
            print(f"{defect['severity']}: {kind}: {where}{defect['says']}")
    for kind, count in counts.items():
        if count > SHOWN:
            print(f"... and {count - SHOWN} more of kind '{kind}'; --report FILE lists all")
    sizes = ", ".join(f"{name} {count}" for name, count in report["splits"].items())
    totals = f"{report['errors']} errors, {report['warnings']} warnings"
    print(f"{report['folder']}: {sizes or 'nothing readable'}; {totals}")


if __name__ == "__main__":
    sys.exit(main())
