"""Dividing a data set into train, val and test by group, so that no patient, subject or scene is in two splits."""

import argparse
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from configs.errors import ConfigError, DataError
from shards.building.items import WorkItem
from shards.building.text_files import read_lines
from shards.reading.order import permute

NAMES = ("train", "val", "test")


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
        help="file with a line `group,split` for every group, instead of a random division",
    )


def divide(items: Sequence[WorkItem], args: argparse.Namespace) -> dict[str, list[WorkItem]]:
    """Split -> its items in their given order, by the groups they belong to; see `assign`."""
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


def read_split_file(path: Path) -> dict[str, str]:
    """Group -> split, from lines `group,split`. Raises DataError naming the line that is something else."""
    splits: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip() or line.replace(" ", "") == "group,split":
            continue
        group, _, split = (part.strip() for part in line.rpartition(","))
        if split not in NAMES or not group:
            raise DataError(f"{path}: line {number} is {line!r}; expected `group,split` with train, val or test")
        if splits.setdefault(group, split) != split:
            raise DataError(f"{path}: group '{group}' is in two splits, {splits[group]} and {split}")
    return splits


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
