"""Building one split: shards written in order, resumed after an interruption, and moved into place when complete.

An interrupted build continues after its last finished shard and ends with the same bytes as an uninterrupted one.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from configs.errors import DataError, MachineError
from shards.building.items import WorkItem
from shards.building.journal import Journal, Position
from shards.building.read_items import read_items
from shards.building.writer import open_shard_writer, publish
from shards.format import index
from shards.format.build_index import build_index
from shards.format.index import IndexHeader, Meta

NOT_IN_PLAN = ("output", "workers", "dry_run", "verbose", "quiet")
"""Arguments that do not change what is written."""


class SplitBuild:
    """One split on its way to disk."""

    def __init__(
        self, folder: Path, items: Sequence[WorkItem], name: str, meta: Meta, args: argparse.Namespace
    ) -> None:
        self.folder, self.items, self.name, self.meta = folder, items, name, meta
        self.shard_mb, self.workers = float(args.shard_mb), max(1, int(args.workers))
        self.partial = folder.with_name(folder.name + ".partial")
        self.plan = plan_hash(items, name, meta, args)
        self.journal = Journal(self.partial, self.plan)
        self.position = Position(0, 0)
        self.failed = False

    def run(self) -> IndexHeader:
        """Write what is missing.

        Returns:
            The index header of the complete split.

        Raises:
            DataError: The folder holds other files, or an item cannot be used.
            MachineError: The folder cannot be written.
        """
        try:
            if (self.folder / index.HEADER).is_file():
                return self._existing()
            if self.folder.exists() and any(self.folder.iterdir()):
                raise DataError(f"{self.folder}: already holds files; remove the folder or choose another --output")
            self.position = self.journal.resume()
            self._write_shards()
            header = build_index(self.partial, meta={**self.meta, "plan": self.plan})
            self.journal.remove()
            publish(self.partial, self.folder)
        except OSError as error:
            raise MachineError(f"{self.folder}: cannot write shards ({error.strerror or error})") from error
        return header

    def _existing(self) -> IndexHeader:
        """The header of a split that is complete already. Raises DataError if it was built from something else."""
        header: IndexHeader = json.loads((self.folder / index.HEADER).read_text(encoding="utf-8"))
        if header["meta"].get("plan") != self.plan:
            raise DataError(
                f"{self.folder}: already holds shards built from other input or with other settings; remove the "
                "folder or choose another --output"
            )
        return header

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
                for samples in read_items(self.items[self.position.item :], self.workers):
                    for sample in samples[skip:]:
                        writer.write(sample)
                        self.position = self.position._replace(sample=self.position.sample + 1)
                    skip = 0
                    self.position = Position(self.position.item + 1, 0)
                    bar.update()
            except BaseException:
                self.failed = True
                raise
        if writer.total == 0 and not start:
            raise DataError(f"{self.folder}: the input yields no samples")

    def _on_shard_done(self, shard: Path) -> None:
        # webdataset finishes a shard before it writes the sample that does not fit any more, so everything before the
        # current position is in this shard or an earlier one. When an error closes the writer, the last shard is a
        # valid tar but shorter than in an uninterrupted build: it is not recorded, and will be written again.
        if not self.failed:
            self.journal.add(shard, self.position)


def plan_hash(items: Sequence[WorkItem], name: str, meta: Meta, args: argparse.Namespace) -> str:
    """A hash of all that the written bytes depend on: format, settings, names and sizes of the input files.

    Folders are left out, so that a data set that has moved is recognised as the same.
    """
    files = [[item.key, item.group, [[path.name, path.stat().st_size] for path in item.files]] for item in items]
    settings = {
        key: Path(value).name if isinstance(value, str) and "/" in value else value
        for key, value in vars(args).items()
        if key not in NOT_IN_PLAN
    }
    text = json.dumps([index.VERSION, name, meta, settings, files], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
