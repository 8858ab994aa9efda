"""Checks a data set of shards from its bytes to its splits: `python -m shards.verify DIR [--repair] [--report FILE]`.

DIR is one split or the folder above several. Errors end with exit code 4, warnings do not (unless --strict).
"""

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from configs.errors import DataError, MachineError, run_command
from shards.format import index
from shards.reading.integrity import Content, Finding, check_samples, same_pixels
from shards.reading.shard_set import ShardSet

SHOWN = 20
"""Findings of one kind printed; the report holds all."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m shards.verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="a split, or the folder that holds the splits")
    parser.add_argument(
        "--repair", action="store_true", help="make the index anew from the tars where it is missing, damaged or stale"
    )
    parser.add_argument("--report", help="write every finding to this JSON file")
    parser.add_argument("--strict", action="store_true", help="warnings end with exit code 4 too")
    args = parser.parse_args(arguments)

    def work() -> int:
        report = verify(Path(args.folder), repair=args.repair)
        _print(report)
        if args.report:
            _write(Path(args.report), report)
        bad = report["errors"] + (report["warnings"] if args.strict else 0)
        return DataError.exit_code if bad else 0

    return run_command(work)


def verify(folder: Path, *, repair: bool = False) -> dict[str, Any]:
    """Everything found, as the JSON report: splits with their sizes, findings, number of errors and warnings."""
    splits = (
        [folder]
        if any(folder.glob("*.tar"))
        else sorted(
            child for child in (folder.iterdir() if folder.is_dir() else ()) if child.is_dir() and _holds_tars(child)
        )
    )
    if not splits:
        index.tars(folder)  # says what is wrong with it
    findings: list[Finding] = []
    opened: dict[str, ShardSet] = {}
    contents: dict[str, Content] = {}
    for split in splits:
        shards = _open(split, findings, repair)
        if shards is not None:
            opened[split.name], contents[split.name] = shards, check_samples(shards)
            findings += contents[split.name].findings
    findings += _leaks(opened, contents)
    for shards in opened.values():
        shards.files.close()
    return {
        "folder": str(folder),
        "splits": {name: len(shards) for name, shards in opened.items()},
        "errors": sum(finding.severity == "error" for finding in findings),
        "warnings": sum(finding.severity == "warning" for finding in findings),
        "findings": [asdict(finding) for finding in findings],
    }


def _holds_tars(folder: Path) -> bool:
    """Path.glob would find nothing in a folder that may not be listed, and the split would be passed over."""
    return any(name.endswith(".tar") for name in os.listdir(folder))


def _open(split: Path, findings: list[Finding], repair: bool) -> ShardSet | None:
    """The split, its index made anew when that is asked; findings say why it cannot be opened."""
    try:
        shards = ShardSet.open(split)
        if not repair or not _any_changed(shards):
            return shards
    except DataError as error:
        if not repair:
            findings.append(Finding("error", "index", str(split), str(error)))
            findings += _bad_tars(split)
            return None
    bad = _bad_tars(split)
    if bad:
        findings += bad
        return None
    index.build(split, meta=_old_meta(split))
    print(f"{split}: index made anew")
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


def _bad_tars(split: Path) -> list[Finding]:
    """Shards that cannot be indexed, each with the reason."""
    found = []
    for number, path in enumerate(index.tars(split)):
        try:
            index.read_shard(number, path)
        except DataError as error:
            found.append(Finding("error", "shard", str(path), str(error)))
    return found


def _old_meta(split: Path) -> dict[str, Any] | None:
    """The builder's notes, which the tars do not hold, from what is left of the old index."""
    try:
        meta = json.loads((split / index.HEADER).read_text(encoding="utf-8"))["meta"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return meta if isinstance(meta, dict) else None


def _leaks(opened: dict[str, ShardSet], contents: dict[str, Content]) -> list[Finding]:
    """Groups and pixels that are in two splits."""
    found = []
    names = list(contents)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            shared = sorted(contents[a].groups.keys() & contents[b].groups.keys())
            if shared:
                found.append(
                    Finding(
                        "error",
                        "group in two splits",
                        f"{a} and {b}",
                        f"{len(shared)} groups, e.g. {shared[0]}: {contents[a].groups[shared[0]]} and "
                        f"{contents[b].groups[shared[0]]}",
                    )
                )
            for mark in sorted(contents[a].members.keys() & contents[b].members.keys()):
                one, other = contents[a].members[mark], contents[b].members[mark]
                if same_pixels(opened[a], one, opened[b], other):
                    says = f"{opened[a].key(one[0])}.{one[1]} equals {opened[b].key(other[0])}.{other[1]}"
                    found.append(Finding("error", "pixels in two splits", f"{a} and {b}", says))
    return found


def _write(path: Path, report: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise MachineError(
            f"{path}: the report cannot be written ({error.strerror}): choose another --report"
        ) from error


def _print(report: dict[str, Any]) -> None:
    shown: dict[str, int] = {}
    for finding in report["findings"]:
        kind = finding["kind"]
        shown[kind] = shown.get(kind, 0) + 1
        if shown[kind] <= SHOWN:
            where = "" if finding["says"].startswith(finding["where"]) else f"{finding['where']}: "
            print(f"{finding['severity']}: {kind}: {where}{finding['says']}")
    for kind, count in shown.items():
        if count > SHOWN:
            print(f"... and {count - SHOWN} more of kind '{kind}'; --report FILE lists all")
    sizes = ", ".join(f"{name} {count}" for name, count in report["splits"].items())
    counts = f"{report['errors']} errors, {report['warnings']} warnings"
    print(f"{report['folder']}: {sizes or 'nothing readable'}; {counts}")


if __name__ == "__main__":
    sys.exit(main())
