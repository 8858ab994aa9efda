"""Building a data set: every split of it, the card that describes it, and a preview."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from configs.errors import DataError
from shards.building import dataset_card
from shards.building.items import WorkItem
from shards.building.split_build import SplitBuild
from shards.format.index import IndexHeader, Meta

Headers = dict[str, IndexHeader]
"""Split -> its index header."""


def build_splits(args: argparse.Namespace, name: str, splits: Mapping[str, Sequence[WorkItem]], meta: Meta) -> Headers:
    """Write every split to a folder of its name in args.output, with `dataset.md` and `preview.png` beside them.

    A split that is already there, built from the same input with the same settings, is left as it is.

    Args:
        args: Arguments of the source, among them those of `options.add_build_arguments`.
        name: Beginning of the shards' file names.
        splits: Split -> its work items in the order they are written; splits without items are not written.
        meta: The notes on the data set, stored in the index: data_range, source, licence, sigma, ...

    Returns:
        Split -> index header; empty with --dry-run.

    Raises:
        DataError: There is nothing to write, a group is in two splits, or an item cannot be used.
        MachineError: The folder cannot be written.
    """
    limited = {split: list(items)[: args.limit] for split, items in splits.items() if items}
    if not limited:
        raise DataError("the input holds nothing to build shards from")
    _check_keys_and_groups(limited)
    if args.dry_run:
        for split, items in limited.items():
            groups = len({item.group for item in items})
            print(f"{split}: {len(items)} files or volumes in {groups} groups, {items[0].key} ... {items[-1].key}")
        return {}
    output = Path(args.output)
    headers = {split: SplitBuild(output / split, items, name, meta, args).run() for split, items in limited.items()}
    dataset_card.write(output, name, headers)
    return headers


def _check_keys_and_groups(splits: Mapping[str, Sequence[WorkItem]]) -> None:
    """Raise DataError where a group is in two splits, or a key twice in one."""
    split_of_group: dict[str, str] = {}
    for split, items in splits.items():
        keys: set[str] = set()
        for item in items:
            first = split_of_group.setdefault(item.group, split)
            if first != split:
                raise DataError(f"group '{item.group}' would be in two splits, {first} and {split}")
            if item.key in keys:
                raise DataError(f"{split}: two files have the key '{item.key}'; use --match to make keys unique")
            keys.add(item.key)
