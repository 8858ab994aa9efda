"""Which split a group (patient, subject, scene) belongs to: seeded, and never two splits for one group."""

import argparse
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from configs.errors import ConfigError, DataError
from shards.reading.order import permute

NAMES = ("train", "val", "test")


def add_argument(parser: argparse.ArgumentParser, default: str, meaning: str = "") -> None:
    """--split and --split-file; `meaning` explains a default that is no list of parts."""
    described = f"{default}: {meaning}" if meaning else default
    parser.add_argument(
        "--split",
        default=default,
        metavar="TRAIN,VAL,TEST",
        help=f"parts of the groups (patients, subjects, images) per split (default {described})",
    )
    parser.add_argument(
        "--split-file",
        metavar="CSV",
        help="lines `group,split` that say the split of every group instead of --split and --seed",
    )


def assign(groups: Iterable[str], args: argparse.Namespace) -> dict[str, str]:
    """Group -> split, from args.split_file, or drawn with args.seed in the parts of args.split.

    The draw depends on the names of the groups and the seed alone. Every split with a part gets at least one group
    while there are enough. Raises ConfigError for parts that cannot be read, DataError for a file that misses a group.
    """
    names = sorted(set(groups))
    if args.split_file:
        listed = read(Path(args.split_file))
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


def read(path: Path) -> dict[str, str]:
    """Group -> split, from lines `group,split`. Raises DataError naming the line that says something else."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', 'not UTF-8 text')})") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.replace(" ", "") == "group,split":
            continue
        group, _, split = (part.strip() for part in line.rpartition(","))
        if split not in NAMES or not group:
            raise DataError(f"{path}: line {number} is {line!r}; expected `group,split` with train, val or test")
        if found.setdefault(group, split) != split:
            raise DataError(f"{path}: group {group} is in {found[group]} and in {split}")
    return found


def _parts(text: str) -> list[float]:
    try:
        parts = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--split {text}: expected three numbers such as 80,10,10") from error
    if len(parts) != len(NAMES) or min(parts) < 0 or not 0 < sum(parts) < math.inf:
        raise ConfigError(f"--split {text}: expected three numbers such as 80,10,10")
    return parts


def _counts(total: int, parts: Sequence[float]) -> list[int]:
    """Whole groups per split: largest remainders, then at least one each where there are enough groups."""
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
