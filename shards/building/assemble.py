"""The one way builders write: many files read in parallel, shards written in order, taken up again after a kill.

Finished shards are noted in `<split>.partial/journal.jsonl`; a second start with the same input continues behind them
and ends with the same bytes as an undisturbed one. The split's folder appears by renaming when it is complete.
"""

import argparse
import hashlib
import itertools
import json
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from configs.errors import DataError, MachineError
from configs.support.arguments import real_number, whole_number
from shards.building import card
from shards.building.writer import SHARD_MB, encode, open_writer
from shards.format import index
from shards.format.build_index import build_index
from shards.format.index import IndexHeader

JOURNAL = "journal.jsonl"
Sample = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """One unit of work: usually a file, a pair of files or a volume."""

    key: str
    """Unique within the split; names the item in messages."""
    group: str
    """Patient, subject or scene; groups are never divided between splits."""
    load: Callable[[], list[Sample]]
    """Reads it and gives its samples, the same every time."""
    origin: tuple[Path, ...] = ()
    """The files it is read from; a changed size starts the build anew."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments every source has."""
    parser.add_argument("--output", required=True, help="folder for the splits")
    parser.add_argument("--seed", type=whole_number(0), default=1337, help="fixes noise and splits (default 1337)")
    parser.add_argument(
        "--shard-mb", type=real_number(above=0), default=SHARD_MB, help=f"size of a shard (default {SHARD_MB:.0f})"
    )
    parser.add_argument(
        "--workers", type=whole_number(1), default=min(8, os.cpu_count() or 1), help="files read side by side"
    )
    parser.add_argument("--limit", type=whole_number(1), help="only the first so many files of each split")
    parser.add_argument("--dry-run", action="store_true", help="say what would be written, write nothing")


def write(
    args: argparse.Namespace, name: str, splits: Mapping[str, Sequence[Item]], meta: dict[str, Any]
) -> dict[str, IndexHeader]:
    """Write every split below args.output with `dataset.md` and `preview.png`; returns split -> index header.

    A split that is already there, made from the same input, is left as it is. Raises DataError naming file and key.
    """
    chosen = {split: list(items)[: args.limit] for split, items in splits.items() if items}
    if not chosen:
        raise DataError("the input holds nothing to build shards from")
    _refuse_shared_groups(chosen)
    if args.dry_run:
        for split, items in chosen.items():
            groups = len({item.group for item in items})
            print(f"{split}: {len(items)} files or volumes of {groups} groups, {items[0].key} ... {items[-1].key}")
        return {}
    output = Path(args.output)
    headers = {split: _Build(output / split, items, name, meta, args).run() for split, items in chosen.items()}
    card.write(output, name, headers)
    return headers


def one(key: str, parts: Sample, **notes: Any) -> list[Sample]:
    """The samples of an item that is a single one: arrays by field name, and what is noted beside them."""
    return [
        {
            "__key__": key,
            **{f"{field}.npy" if isinstance(value, np.ndarray) else field: value for field, value in parts.items()},
            "json": notes,
        }
    ]


class _Build:
    """One split on its way to disk."""

    def __init__(
        self, final: Path, items: list[Item], name: str, meta: dict[str, Any], args: argparse.Namespace
    ) -> None:
        self.final, self.items, self.name, self.meta = final, items, name, meta
        self.megabytes, self.workers = args.shard_mb, max(1, args.workers)
        self.work = final.with_name(final.name + ".partial")
        self.plan = _plan_hash(items, name, meta, args)
        self.item = self.inside = 0
        """How far writing has come: items complete, and samples of the next one."""
        self.shards: list[str] = []
        self.broken = False

    def run(self) -> IndexHeader:
        """Write what is missing; returns the index header."""
        try:
            if (self.final / index.HEADER).is_file():
                return self._same_as_before()
            if self.final.exists() and any(self.final.iterdir()):
                raise DataError(f"{self.final}: already holds files; remove the folder or give another --output")
            self._take_up()
            self._write()
            header = build_index(self.work, meta={**self.meta, "plan": self.plan})
            (self.work / JOURNAL).unlink()
            if self.final.exists():
                self.final.rmdir()
            os.replace(self.work, self.final)
        except OSError as error:
            raise MachineError(f"{self.final}: cannot write shards ({error.strerror or error})") from error
        return header

    def _same_as_before(self) -> IndexHeader:
        header: IndexHeader = json.loads((self.final / index.HEADER).read_text(encoding="utf-8"))
        if header["meta"].get("plan") != self.plan:
            raise DataError(
                f"{self.final}: already holds shards made from other input or with other settings; remove "
                "the folder or give another --output"
            )
        return header

    def _take_up(self) -> None:
        """Find what an earlier start finished; anything else in the working folder is removed."""
        journal = self.work / JOURNAL
        lines = journal.read_text(encoding="utf-8").splitlines() if journal.is_file() else []
        notes = [note for line in lines if (note := _readable(line)) is not None]
        if not notes or notes[0].get("plan") != self.plan:
            shutil.rmtree(self.work, ignore_errors=True)
            self.work.mkdir(parents=True)
            self._note({"plan": self.plan})
            return
        for note in notes[1:]:
            path = self.work / note["shard"]
            if not path.is_file() or path.stat().st_size != note["size"]:
                break
            self.shards.append(note["shard"])
            self.item, self.inside = note["item"], note["inside"]
        for path in self.work.iterdir():
            if path.name not in (*self.shards, JOURNAL):
                path.unlink()

    def _write(self) -> None:
        with (
            open_writer(self.work, self.name, self.megabytes, start_shard=len(self.shards), done=self._done) as sink,
            tqdm(
                total=len(self.items),
                initial=self.item,
                desc=self.final.name,
                unit="file",
                disable=None,
                file=sys.stderr,
            ) as bar,
        ):
            try:
                skip = self.inside
                for samples in _ahead(self.items[self.item :], self.workers):
                    for sample in samples[skip:]:
                        sink.write(sample)
                        self.inside += 1
                    skip, self.inside = 0, 0
                    self.item += 1
                    bar.update()
            except BaseException:
                self.broken = True
                raise
        if sink.total == 0 and not self.shards:
            raise DataError(f"{self.final}: no samples to write")

    def _done(self, shard: Path) -> None:
        """A shard is complete: everything written before the current sample is in it or in an earlier one."""
        if not self.broken:  # closing in haste leaves a shard that is whole but too short
            size = shard.stat().st_size
            self._note({"shard": shard.name, "size": size, "item": self.item, "inside": self.inside})

    def _note(self, note: dict[str, Any]) -> None:
        with open(self.work / JOURNAL, "a", encoding="utf-8") as file:
            file.write(json.dumps(note) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _ahead(items: Sequence[Item], workers: int) -> Iterator[list[Sample]]:
    """The encoded samples of each item in order, read by threads a few items ahead."""
    waiting: deque[Future[list[Sample]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="quell-build") as pool:
        try:
            source = iter(items)
            waiting.extend(pool.submit(_loaded, item) for item in itertools.islice(source, workers * 2))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(_loaded, item) for item in itertools.islice(source, 1))
        finally:
            for future in waiting:
                future.cancel()


def _loaded(item: Item) -> list[Sample]:
    try:
        samples = item.load()
    except (OSError, ValueError, KeyError, EOFError) as error:
        names = ", ".join(str(path) for path in item.origin) or item.key
        raise DataError(f"{names}: cannot be read ({error})") from error
    for sample in samples:
        key = sample["__key__"]
        if "." in key or not key:
            raise DataError(f"{item.key}: sample key {key!r} must be text without dots, which end a key")
        for part, value in sample.items():
            if isinstance(value, np.ndarray) and value.dtype.kind in "fc" and not np.isfinite(value).all():
                raise DataError(f"{item.key}: sample {key}: {part} holds NaN or Inf; repair or leave out this file")
    return [
        {
            part: encode(part, value)
            for part, value in {**sample, "json": {"group": item.group, **sample.get("json", {})}}.items()
        }
        for sample in samples
    ]


def _refuse_shared_groups(splits: dict[str, list[Item]]) -> None:
    home: dict[str, str] = {}
    for split, items in splits.items():
        keys: set[str] = set()
        for item in items:
            if home.setdefault(item.group, split) != split:
                raise DataError(f"group {item.group} would be in {home[item.group]} and in {split}")
            if item.key in keys:
                raise DataError(f"{split}: two files give the key {item.key}; make keys unique (--match)")
            keys.add(item.key)


def _plan_hash(items: list[Item], name: str, meta: dict[str, Any], args: argparse.Namespace) -> str:
    """What the bytes depend on: format, settings, and the input's names and sizes; not where it lies."""
    files = [[item.key, item.group, [[path.name, path.stat().st_size] for path in item.origin]] for item in items]
    settings = {
        key: Path(value).name if isinstance(value, str) and "/" in value else value
        for key, value in vars(args).items()
        if key not in ("output", "workers", "dry_run")
    }
    text = json.dumps([index.VERSION, name, meta, settings, files], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _readable(line: str) -> dict[str, Any] | None:
    """A journal line; None for the half line a kill may leave."""
    try:
        note = json.loads(line)
    except ValueError:
        return None
    return note if isinstance(note, dict) else None
