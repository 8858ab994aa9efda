"""Building one split: shards written in order, resumed after an interruption, and moved into place when complete.

An interrupted build continues after its last finished shard and ends with the same bytes as an uninterrupted one.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from quell.configs.errors import DataError, MachineError
from quell.configs.support.json_files import read_json
from quell.shards.building.items import WorkItem
from quell.shards.building.journal import Journal, Position
from quell.shards.building.read_items import Change, LoadedItem, read_items
from quell.shards.building.writer import open_shard_writer, publish
from quell.shards.format import index
from quell.shards.format.build_index import build_index
from quell.shards.format.index import IndexHeader, Meta
from quell.shards.listing.left_out import HARMLESS, LeftOut, counts, sentences

NOT_IN_PLAN = ("output", "workers", "dry_run", "verbose", "quiet", "strict", "trust_data_range")
"""Arguments that do not change what is written."""
IN_PLAN_IF_CHANGED: dict[str, object] = {
    "skip_damaged": False,
    "resize": None,
    "resize_mode": "stretch",
    "keep_units": False,
    "slice_gap": None,
    "series": [],
    "patient_by": "auto",
    "data_range": None,
    "repeats": False,
}
"""Arguments that came later -> the value that writes what earlier versions wrote, which had another plan otherwise."""
LEFT_OUT = "left_out.json"
"""Beside the shards of a split from whose items something was left out: the entries."""


class SplitBuild:
    """One split on its way to disk."""

    def __init__(
        self,
        folder: Path,
        items: Sequence[WorkItem],
        name: str,
        meta: Meta,
        args: argparse.Namespace,
        changes: Sequence[Change] = (),
    ) -> None:
        self.folder, self.items, self.name, self.meta, self.changes = folder, items, name, meta, changes
        self.is_strict, self.skip_damaged = bool(args.strict), bool(args.skip_damaged)
        self.shard_mb, self.workers = float(args.shard_mb), max(1, int(args.workers))
        self.partial = folder.with_name(folder.name + ".partial")
        self.plan = plan_hash(items, name, meta, args)
        self.journal = Journal(self.partial, self.plan)
        self.position = Position(0, 0)
        self.left_out: list[LeftOut] = []
        """What was left out of the items before the position."""
        self.recorded = 0
        """Entries of it that are in the journal."""
        self.failed = False

    def run(self) -> IndexHeader:
        """Write what is missing.

        Returns:
            The index header of the complete split.

        Raises:
            DataError: The folder holds other files, an item cannot be used, or something was left out and the build is
                strict.
            MachineError: The folder cannot be written.
        """
        try:
            if (self.folder / index.HEADER).is_file():
                return self._existing()
            if self.folder.exists() and any(self.folder.iterdir()):
                raise DataError(f"{self.folder}: already holds files; remove the folder or choose another --output")
            self.position = self.journal.resume()
            self.left_out, self.recorded = self.journal.left_out, len(self.journal.left_out)
            if self.position.item < len(self.items):
                self._write_shards()
            self._refuse_if_strict()
            header = build_index(self.partial, meta={**self.meta, **self._write_left_out(), "plan": self.plan})
            self.journal.remove()
            publish(self.partial, self.folder)
        except OSError as error:
            raise MachineError(f"{self.folder}: cannot write shards ({error.strerror or error})") from error
        return header

    def _existing(self) -> IndexHeader:
        """The header of a split that is complete already. Raises DataError if it was built from something else."""
        path = self.folder / index.HEADER
        remedy = "remove the folder, or run python -m shards.verify --repair on it"
        header = index.parse_header(path, path.read_bytes(), remedy=remedy)
        if header["meta"].get("plan") != self.plan:
            raise DataError(
                f"{self.folder}: already holds shards built from other input or with other settings; remove the "
                "folder or choose another --output"
            )
        entries = read_json(self.folder / LEFT_OUT).get("left_out", ())
        self.left_out = [LeftOut(**entry) for entry in entries]
        self._refuse_if_strict()
        return header

    def _refuse_if_strict(self) -> None:
        harmful = [entry for entry in self.left_out if entry.kind not in HARMLESS]
        if self.is_strict and harmful:
            raise DataError(
                f"{self.folder}: {'; '.join(sentences(harmful))}; mend the input, or start the same command without "
                "--strict, which continues from here"
            )

    def _write_left_out(self) -> Meta:
        """Write the entries beside the shards; returns the note for the index."""
        if not self.left_out:
            return {}
        text = json.dumps({"left_out": [asdict(entry) for entry in self.left_out]}, indent=1, ensure_ascii=False)
        (self.partial / LEFT_OUT).write_text(text + "\n", encoding="utf-8")
        return {"left_out": counts(self.left_out)}

    def _write_shards(self) -> None:
        start = len(self.journal.shards)
        with (
            open_shard_writer(
                self.partial, self.name, self.shard_mb, start_shard=start, on_shard_done=self._on_shard_done
            ) as writer,
            tqdm(
                total=len(self.items),
                initial=self.position.item,
                desc=self.folder.name,
                unit="file",
                disable=None,
                file=sys.stderr,
            ) as bar,
        ):
            try:
                skip = self.position.sample
                for loaded in self._read_remaining():
                    for sample in loaded.samples[skip:]:
                        writer.write(sample)
                        self.position = self.position._replace(sample=self.position.sample + 1)
                    skip = 0
                    self.position = Position(self.position.item + 1, 0)
                    self.left_out += loaded.left_out
                    bar.update()
            except BaseException:
                self.failed = True
                raise
        if writer.total == 0 and not start:
            told = f": {'; '.join(sentences(self.left_out))}" if self.left_out else ""
            raise DataError(f"{self.folder}: the input yields no samples{told}")

    def _read_remaining(self) -> Iterator[LoadedItem]:
        remaining = self.items[self.position.item :]
        return read_items(remaining, self.workers, changes=self.changes, skip_damaged=self.skip_damaged)

    def _on_shard_done(self, shard: Path) -> None:
        # webdataset finishes a shard before it writes the sample that does not fit any more, so everything before the
        # current position is in this shard or an earlier one. When an error closes the writer, the last shard is a
        # valid tar but shorter than in an uninterrupted build: it is not recorded, and will be written again.
        if not self.failed:
            self.journal.add(shard, self.position, self.left_out[self.recorded :])
            self.recorded = len(self.left_out)


def plan_hash(items: Sequence[WorkItem], name: str, meta: Meta, args: argparse.Namespace) -> str:
    """A hash of all that the written bytes depend on: format, settings, names and sizes of the input files.

    Folders are left out, so that a data set that has moved is recognised as the same.
    """
    files = [[item.key, item.group, [[path.name, path.stat().st_size] for path in item.files]] for item in items]
    text = json.dumps([index.VERSION, name, meta, hashed_settings(args), files], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def hashed_settings(args: argparse.Namespace) -> dict[str, object]:
    """The arguments that belong to the plan."""
    return {
        key: Path(value).name if isinstance(value, str) and "/" in value else value
        for key, value in vars(args).items()
        if key not in NOT_IN_PLAN and IN_PLAN_IF_CHANGED.get(key, ...) != value
    }
