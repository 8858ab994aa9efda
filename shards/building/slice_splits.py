"""Dividing the slices of a subject between splits, where there is only one subject, or where slices are to be left out.

Neighbouring slices show nearly the same anatomy. A gap keeps them out of two splits, but the numbers still say nothing
about other subjects, which every build of this kind says.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate

from quell.configs.errors import ConfigError, DataError
from quell.configs.support.logs import get_logger
from quell.shards.building.items import Sample, WorkItem
from quell.shards.listing.left_out import leave_out

log = get_logger(__name__)

Slices = tuple[range, ...]
"""Numbers of slices, as a split file lists them."""


def parse_slices(text: str) -> Slices:
    """Read slice numbers such as `0-11;13`, from 0, both ends included.

    Raises:
        ValueError: The text is something else.
    """
    ranges = []
    for part in re.split(r"[;\s]+", text.strip()):
        matched = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if matched is None or int(matched[2] or matched[1]) < int(matched[1]):
            raise ValueError(f"expected slice numbers such as 0-11;13, got {text!r}")
        ranges.append(range(int(matched[1]), int(matched[2] or matched[1]) + 1))
    return tuple(ranges)


def overlap(a: Slices, b: Slices) -> int | None:
    """A slice that two lists share; None where they share none."""
    shared = {number for numbers in a for number in numbers} & {number for numbers in b for number in numbers}
    return min(shared) if shared else None


def listed_part(item: WorkItem, split: str, slices: Slices) -> WorkItem:
    """The item with the listed slices only, as a group of its own."""
    return replace(item, group=f"{item.group}-{split}", load=partial(_load_listed, item, slices))


def contiguous_parts(items: Sequence[WorkItem], parts: Mapping[str, float], gap: int) -> dict[str, list[WorkItem]]:
    """Split -> its items, each with a run of the subject's slices, `gap` slices apart.

    Args:
        items: The items of a single group.
        parts: Split -> its proportion; the runs follow each other in this order.
        gap: Slices left out between two runs.

    Raises:
        ConfigError: The items belong to several groups.
    """
    groups = sorted({item.group for item in items})
    if len(groups) > 1:
        raise ConfigError(
            f"--slice-gap divides the slices of one subject, but there are {len(groups)}, e.g. {groups[0]} and "
            f"{groups[1]}: divide them by subject (omit --slice-gap)"
        )
    wanted = {split: part for split, part in parts.items() if part > 0}
    log.warning(
        "one subject: its slices are divided between %s, with a gap of %d. Neighbouring slices look alike, so results "
        "say nothing about other subjects",
        ", ".join(wanted),
        gap,
    )
    return {
        split: [
            replace(item, group=f"{item.group}-{split}", load=partial(_load_run, item, split, wanted, gap))
            for item in items
        ]
        for split in wanted
    }


def run_of_slices(count: int, split: str, parts: Mapping[str, float], gap: int) -> range:
    """The places that a split gets of `count` slices. Raises DataError where there are too few."""
    available = count - gap * (len(parts) - 1)
    if available < len(parts):
        raise DataError(
            f"{count} slices are too few for {len(parts)} splits with a gap of {gap}: lower --slice-gap or --split"
        )
    ends = [round(available * total / sum(parts.values())) for total in accumulate(parts.values())]
    bounds = [0]
    for place, end in enumerate(ends):
        left_for_others = len(ends) - 1 - place
        bounds.append(min(max(end, bounds[-1] + 1), available - left_for_others))
    place = list(parts).index(split)
    return range(bounds[place] + gap * place, bounds[place + 1] + gap * place)


def _load_run(item: WorkItem, split: str, parts: Mapping[str, float], gap: int) -> list[Sample]:
    samples = item.load()
    try:
        chosen = run_of_slices(len(samples), split, parts, gap)
    except DataError as error:
        raise DataError(f"{item.key}: {error}") from error
    if gap and chosen.stop < len(samples):
        for sample in samples[chosen.stop : chosen.stop + gap]:
            leave_out("slice of a gap", sample.key, f"after {split}")
    return samples[chosen.start : chosen.stop]


def _load_listed(item: WorkItem, slices: Slices) -> list[Sample]:
    """The samples whose `slice` number, or else whose place, is listed."""
    samples = item.load()
    listed = {number for numbers in slices for number in numbers}
    numbers = [int(str(sample.metadata.get("slice", place))) for place, sample in enumerate(samples)]
    missing = sorted(listed - set(numbers))
    if missing:
        raise DataError(
            f"{item.key}: the split file lists slice {missing[0]}, but the slices that were read are "
            f"{min(numbers)} to {max(numbers)}, {len(numbers)} in all"
        )
    return [sample for number, sample in zip(numbers, samples, strict=True) if number in listed]
