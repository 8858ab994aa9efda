"""The journal of a build: which shards are finished, so that an interrupted build can be resumed.

The first line of `<split>.partial/journal.jsonl` is the plan, a hash of everything the shards depend on; each finished
shard adds a line.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from quell.configs.support.atomic_files import write_atomically
from quell.configs.support.json_files import Record, read_json_lines
from quell.shards.listing.left_out import LeftOut

JOURNAL = "journal.jsonl"


class Position(NamedTuple):
    """How far a build has come."""

    item: int
    """Work items of which every sample has been written."""
    sample: int
    """Samples of the following item that have been written."""


class Journal:
    """The finished shards of one working folder."""

    def __init__(self, folder: Path, plan: str) -> None:
        self.folder, self.plan = folder, plan
        self.shards: list[str] = []
        self.left_out: list[LeftOut] = []
        """What was left out of the items before the position that `resume` has returned."""

    def resume(self) -> Position:
        """Read the journal of an earlier build with the same plan; returns where to continue.

        Files that the journal does not list are removed; with another plan, or without a journal, everything is. The
        journal is then written anew with the lines that hold: after a SIGKILL its last line may be cut off, and what
        is appended to half a line would be lost with it.
        """
        lines = read_json_lines(self.folder / JOURNAL)
        if not lines or lines[0].get("plan") != self.plan:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            self._rewrite([])
            return Position(0, 0)
        position = Position(0, 0)
        valid: list[Record] = []
        for line in lines[1:]:
            if not self._is_next(line, len(valid), position):
                break
            valid.append(line)
            self.left_out += [LeftOut(**entry) for entry in line.get("left_out", ())]
            position = Position(line["item"], line["inside"])
        self.shards = [line["shard"] for line in valid]
        for path in self.folder.iterdir():
            if path.name not in (*self.shards, JOURNAL):
                path.unlink()
        self._rewrite(valid)
        return position

    def add(self, shard: Path, position: Position, left_out: Sequence[LeftOut] = ()) -> None:
        """Record a finished shard.

        Args:
            shard: Its file.
            position: Which samples are in it or in an earlier shard.
            left_out: What was left out of the items that were completed since the last shard.
        """
        line: Record = {
            "shard": shard.name,
            "size": shard.stat().st_size,
            "item": position.item,
            "inside": position.sample,
        }
        if left_out:
            line["left_out"] = [asdict(entry) for entry in left_out]
        with open(self.folder / JOURNAL, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Delete the journal of a complete split."""
        (self.folder / JOURNAL).unlink()

    def _is_next(self, line: Record, number: int, position: Position) -> bool:
        """Whether a line is that of the shard with this number, after `position`, and the shard is still as written.

        A line may be missing in the middle, where an earlier version appended to half a line.
        """
        try:
            path = self.folder / line["shard"]
            return (
                path.name.endswith(f"-{number:06d}.tar")
                and path.is_file()
                and path.stat().st_size == line["size"]
                and Position(line["item"], line["inside"]) > position
            )
        except (KeyError, TypeError):
            return False

    def _rewrite(self, lines: Sequence[Record]) -> None:
        text = "".join(json.dumps(line) + "\n" for line in ({"plan": self.plan}, *lines))
        write_atomically(self.folder / JOURNAL, text)
