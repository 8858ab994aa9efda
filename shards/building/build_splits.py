"""Building a data set: every split of it, the card that describes it, and a preview."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from quell.configs.errors import ConfigError, DataError
from quell.configs.support import logs
from quell.shards.auditing import at_build
from quell.shards.building import declared_range
from quell.shards.building.description import build_report, dataset_card
from quell.shards.building.items import WorkItem
from quell.shards.building.read_items import Change
from quell.shards.building.resizing import Resizing
from quell.shards.building.split_build import SplitBuild
from quell.shards.format.index import IndexHeader, Meta
from quell.shards.listing import left_out

Headers = dict[str, IndexHeader]
"""Split -> its index header."""

log = logs.get_logger(__name__)


def build_splits(args: argparse.Namespace, name: str, splits: Mapping[str, Sequence[WorkItem]], meta: Meta) -> Headers:
    """Write every split to a folder of its name in args.output; `dataset.md`, `preview.png`, `build.json` beside them.

    A split that is already there, built from the same input with the same settings, is left as it is.

    Args:
        args: Arguments of the source, among them those of `options.add_build_arguments`.
        name: Beginning of the shards' file names.
        splits: Split -> its work items in the order they are written; splits without items are not written.
        meta: The notes on the data set, stored in the index: data_range (may be 'auto'), source, licence, sigma, ...

    Returns:
        Split -> index header; empty with --dry-run.

    Raises:
        ConfigError: --resize does not fit the source.
        DataError: There is nothing to write, a group is in two splits, an item cannot be used, the images contradict
            the data range, or something was left out and --strict is given.
        MachineError: The folder cannot be written.
    """
    limited = {split: list(items)[: args.limit] for split, items in splits.items() if items}
    if not limited:
        raise DataError("the input holds nothing to build shards from")
    _check_keys_and_groups(limited)
    listed = left_out.noted()
    _refuse_if_strict(args, listed)
    if args.dry_run:
        for split, items in limited.items():
            groups = len({item.group for item in items})
            print(f"{split}: {len(items)} files or volumes in {groups} groups, {items[0].key} ... {items[-1].key}")
        _tell(listed)
        return {}
    meta, changes = _with_changes(args, meta, limited)
    output = Path(args.output)
    headers, entries = {}, {"": listed}
    for split, items in limited.items():
        split_build = SplitBuild(output / split, items, name, meta, args, changes)
        headers[split] = split_build.run()
        entries[split] = split_build.left_out
    _tell([entry for of_split in entries.values() for entry in of_split])
    dataset_card.write(output, name, headers, entries)
    at_build.describe(output, next(iter(headers)))
    build_report.write(output, name, headers, entries)
    return headers


def _with_changes(
    args: argparse.Namespace, meta: Meta, splits: Mapping[str, Sequence[WorkItem]]
) -> tuple[Meta, list[Change]]:
    """The notes with what the arguments add to them, and what is done to every sample."""
    changes: list[Change] = []
    if getattr(args, "slice_gap", None) is not None:
        meta = {**meta, "split_by": f"slices of one subject, {args.slice_gap} left out between splits"}
    resizing = Resizing.of(args)
    if resizing is not None:
        if not any(item.files for items in splits.values() for item in items):
            raise ConfigError(
                "--resize: these images are generated; choose their size with the arguments of the source"
            )
        if "sigma" in meta and "resize" not in meta:
            raise ConfigError(
                "--resize would change the noise that this source adds (sigma); resize the clean images beforehand"
            )
        if "resize" not in meta:  # the others do it themselves, before they add noise
            changes.append(resizing)
        meta = {**meta, "resize": resizing.notes()}
    settled = declared_range.settle(
        meta,
        splits,
        trust=args.trust_data_range,
        skip_damaged=args.skip_damaged,
        is_choosable="data_range" in vars(args),
    )
    if settled.check is not None:
        changes.append(settled.check)
    return settled.meta, changes


def _refuse_if_strict(args: argparse.Namespace, listed: Sequence[left_out.LeftOut]) -> None:
    harmful = [entry for entry in listed if entry.kind not in left_out.HARMLESS]
    if args.strict and harmful:
        raise DataError(f"{'; '.join(left_out.sentences(harmful))}; move these away, or omit --strict")


def _tell(entries: Sequence[left_out.LeftOut]) -> None:
    """Log what was left out: as warnings, unless it holds no images anyway."""
    harmful = [entry for entry in entries if entry.kind not in left_out.HARMLESS]
    for line in left_out.sentences(harmful):
        log.warning("left out: %s", line)
    for line in left_out.sentences([entry for entry in entries if entry.kind in left_out.HARMLESS]):
        log.info("left out: %s", line)


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
