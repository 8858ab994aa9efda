"""The journal of a build: which shards are finished, so that an interrupted build can be resumed.

The first line of `<split>.partial/journal.jsonl` is the plan, a hash of everything the shards depend on; each finished
shard adds a line.
"""

import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from configs.support.json_files import read_json_lines

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

    def resume(self) -> Position:
        """Read the journal of an earlier build with the same plan; returns where to continue.

        Files that the journal does not list are removed; with another plan, or without a journal, everything is.
        """
        lines = read_json_lines(self.folder / JOURNAL)  # leaves out the half line that a SIGKILL may leave
        if not lines or lines[0].get("plan") != self.plan:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            self._append({"plan": self.plan})
            return Position(0, 0)
        position = Position(0, 0)
        for line in lines[1:]:
            path = self.folder / line["shard"]
            if not path.is_file() or path.stat().st_size != line["size"]:
                break
            self.shards.append(path.name)
            position = Position(line["item"], line["inside"])
        for path in self.folder.iterdir():
            if path.name not in (*self.shards, JOURNAL):
                path.unlink()
        return position

    def add(self, shard: Path, position: Position) -> None:
        """Record a finished shard; `position` says which samples are in it or in an earlier one."""
        size = shard.stat().st_size
        self._append({"shard": shard.name, "size": size, "item": position.item, "inside": position.sample})

    def remove(self) -> None:
        """Delete the journal of a complete split."""
        (self.folder / JOURNAL).unlink()

    def _append(self, line: dict[str, str | int]) -> None:
        with open(self.folder / JOURNAL, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
