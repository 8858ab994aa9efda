"""Dividing a data set into train, val and test by group, so that no patient, subject or scene is in two splits."""

import argparse
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from quell.configs.errors import ConfigError, DataError
from quell.configs.support.arguments import whole_number
from quell.shards.building import slice_splits
from quell.shards.building.items import WorkItem
from quell.shards.building.slice_splits import Slices
from quell.shards.building.text_files import read_lines
from quell.shards.listing.left_out import leave_out
from quell.shards.reading.order import permute

NAMES = ("train", "val", "test")

NO_SPLIT = "none"
"""What a split file says of a group or of slices that are to be left out."""


def add_split_arguments(parser: argparse.ArgumentParser, default: str, meaning: str = "") -> None:
    """Add --split and --split-file; `meaning` explains a default that is not a list of parts."""
    explained = f"{default}: {meaning}" if meaning else default
    parser.add_argument(
        "--split",
        default=default,
        metavar="TRAIN,VAL,TEST",
        help="proportions in which groups (patients, subjects, scenes) are divided at random, with --seed "
        f"(default {explained})",
    )
    parser.add_argument(
        "--split-file",
        metavar="CSV",
        help="file with a line `group,split` for every group, instead of a random division; split may be none, to "
        "leave the group out, and a third column selects slices: `knee1,train,0-11;13`",
    )
    parser.add_argument(
        "--slice-gap",
        type=whole_number(0),
        metavar="N",
        help="for a single subject: divide its slices, in the proportions of --split, with N slices left out between "
        "splits",
    )


def divide(items: Sequence[WorkItem], args: argparse.Namespace) -> dict[str, list[WorkItem]]:
    """Split -> its items in their given order, by the groups they belong to; see `assign`.

    A single subject can be divided by slices (`slice_gap`), and a split file can select slices of a group.
    """
    if getattr(args, "slice_gap", None) is not None:
        if args.split_file:
            raise ConfigError("--slice-gap and --split-file exclude each other: list the slices in the file")
        return slice_splits.contiguous_parts(items, dict(zip(NAMES, _parts(args.split), strict=True)), args.slice_gap)
    if args.split_file and any(line.slices for line in read_split_lines(Path(args.split_file))):
        return _divide_as_listed(items, Path(args.split_file))
    for item in items:
        if args.split_file and read_split_file(Path(args.split_file)).get(item.group) == NO_SPLIT:
            leave_out("group without split", item.group, f"none in {args.split_file}")
    split_of_group = assign([item.group for item in items], args)
    return {split: [item for item in items if split_of_group[item.group] == split] for split in NAMES}


def assign(groups: Iterable[str], args: argparse.Namespace) -> dict[str, str]:
    """Assign groups to splits, from a file or at random.

    The random assignment depends on the names of the groups and the seed alone. Every split with a positive part gets
    at least one group where there are enough.

    Args:
        groups: Names of the groups, in any order and repeated or not.
        args: `split_file` (a path or None), `split` (three parts, such as 80,10,10) and `seed`.

    Returns:
        Group -> split.

    Raises:
        ConfigError: `split` is not three parts.
        DataError: The file cannot be read, or has no line for a group.
    """
    names = sorted(set(groups))
    if args.split_file:
        listed = read_split_file(Path(args.split_file))
        missing = [name for name in names if name not in listed]
        if missing:
            raise DataError(f"{args.split_file}: {len(missing)} of {len(names)} groups have no line, e.g. {missing[0]}")
        return {name: listed[name] for name in names}
    if not names:
        return {}
    order = permute(np.arange(len(names)), size=len(names), seed=args.seed, epoch=0, stream=1)
    counts = _counts(len(names), _parts(args.split))
    split_of_place = [split for split, count in zip(NAMES, counts, strict=True) for _ in range(count)]
    return {names[index]: split_of_place[place] for place, index in enumerate(order.tolist())}


class SplitLine(NamedTuple):
    """A line of a split file."""

    number: int
    group: str
    split: str
    """A name of NAMES, or NO_SPLIT."""
    slices: Slices
    """The slices of the group that the line is about; empty for all."""


def read_split_file(path: Path) -> dict[str, str]:
    """Group -> split, from lines `group,split`. Raises DataError naming the line that is something else."""
    splits: dict[str, str] = {}
    for line in read_split_lines(path):
        if line.slices:
            raise DataError(f"{path}: line {line.number} selects slices, which this source does not divide")
        if splits.setdefault(line.group, line.split) != line.split:
            raise DataError(f"{path}: group '{line.group}' is in two splits, {splits[line.group]} and {line.split}")
    return splits


def read_split_lines(path: Path) -> list[SplitLine]:
    """The lines `group,split[,slices]` of a split file. Raises DataError naming the line that is something else."""
    lines = []
    for number, text in enumerate(read_lines(path), 1):
        if not text.strip() or text.replace(" ", "") in ("group,split", "group,split,slices"):
            continue
        cells = [cell.strip() for cell in text.split(",")]
        has_slices = len(cells) > 2 and cells[-1] not in (*NAMES, NO_SPLIT)
        listed = cells.pop() if has_slices else ""
        group, split = ",".join(cells[:-1]), cells[-1]
        if split not in (*NAMES, NO_SPLIT) or not group:
            raise DataError(
                f"{path}: line {number} is {text!r}; expected `group,split` with train, val, test or none, or "
                "`group,split,slices` with slices such as 0-11;13"
            )
        try:
            slices = slice_splits.parse_slices(listed) if listed else ()
        except ValueError as error:
            raise DataError(f"{path}: line {number}: {error}") from error
        lines.append(SplitLine(number, group, split, slices))
    return lines


def _divide_as_listed(items: Sequence[WorkItem], path: Path) -> dict[str, list[WorkItem]]:
    """Split -> its items, where lines may select slices of a group."""
    lines = read_split_lines(path)
    for i, line in enumerate(lines):
        for earlier in lines[:i]:
            if earlier.group == line.group and not (earlier.slices and line.slices):
                raise DataError(f"{path}: lines {earlier.number} and {line.number} are both about '{line.group}'")
            shared = slice_splits.overlap(earlier.slices, line.slices) if earlier.group == line.group else None
            if shared is not None:
                raise DataError(
                    f"{path}: slice {shared} of '{line.group}' is in two lines, {earlier.number} and {line.number}"
                )
    missing = sorted({item.group for item in items} - {line.group for line in lines})
    if missing:
        raise DataError(f"{path}: {len(missing)} groups have no line, e.g. {missing[0]}")
    divided: dict[str, list[WorkItem]] = {split: [] for split in NAMES}
    for item in items:
        for line in lines:
            if line.group != item.group:
                continue
            if line.split == NO_SPLIT:
                leave_out("group without split", item.group, f"line {line.number} of {path}")
            else:
                divided[line.split].append(
                    slice_splits.listed_part(item, line.split, line.slices) if line.slices else item
                )
    return divided


def _parts(text: str) -> list[float]:
    try:
        parts = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--split {text}: expected three numbers such as 80,10,10") from error
    if len(parts) != len(NAMES) or min(parts) < 0 or not 0 < sum(parts) < math.inf:
        raise ConfigError(f"--split {text}: expected three numbers such as 80,10,10")
    return parts


def _counts(total: int, parts: Sequence[float]) -> list[int]:
    """The number of groups in each split.

    Largest remainders first; then each split with a positive part gets at least one, if there are enough groups.
    """
    exact = [total * part / sum(parts) for part in parts]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(parts)), key=lambda i: (counts[i] - exact[i], i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    if total >= sum(part > 0 for part in parts):
        for i, part in enumerate(parts):
            if part > 0 and counts[i] == 0:
                counts[counts.index(max(counts))] -= 1
                counts[i] = 1
    return counts
