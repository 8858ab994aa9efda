"""Bytes of the shards: a bounded set of open files, each checked against its fingerprint when it is opened."""

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from configs.errors import DataError
from shards.format import tar

MAX_OPEN_FILES = 128
"""Files one process holds open per split; the oldest is closed when another shard is needed."""


class Files:
    """Positioned reads from the shards of one split; safe from several threads."""

    remedy = "copy the shard again, or run python -m shards.verify on its folder"
    """What helps against a damaged shard."""
    verify_every_read = False
    """Whether each read may bring other bytes than the last one: checksums then tell nothing about the next read."""
    anticipates = False
    """Whether `expect` does something."""
    threads = 1
    """Reads worth having under way at once."""

    def __init__(self, folder: Path, shards: Sequence[dict[str, Any]]) -> None:
        self.paths: list[Any] = [folder / shard["name"] for shard in shards]
        """How messages name the shards."""
        self._prints = [tar.Fingerprint(shard["size"], shard["head"], shard["tail"]) for shard in shards]
        self._open: OrderedDict[int, _Descriptor] = OrderedDict()
        self._known: dict[int, tuple[int, ...]] = {}
        """Inode, size and time of the shards whose fingerprint was right."""
        self._lock = threading.Lock()

    def read(self, shard: int, offset: int, buffers: Sequence[Any]) -> None:
        """Fill the buffers, one after the other, from `offset` on. Raises DataError when the shard ends before."""
        descriptor = self._descriptor(shard)
        wanted = sum(len(buffer) for buffer in buffers)
        try:
            got = os.preadv(descriptor.number, buffers, offset)
            while 0 < got < wanted:  # a signal or a network file system may return less than was asked
                more = os.preadv(descriptor.number, _rest(buffers, got), offset + got)
                if not more:
                    break
                got += more
        except OSError as error:
            raise DataError(f"{self.paths[shard]}: cannot be read at byte {offset} ({error.strerror})") from error
        if got < wanted:
            raise DataError(f"{self.paths[shard]}: cut off at byte {offset + got}, after it was indexed; copy it again")

    def read_many(self, places: Sequence[tuple[int, int]], buffers: Sequence[Any]) -> None:
        """Fill each buffer from its (shard, offset): `read` for many, with the bookkeeping done once per shard."""
        numbers = {shard: self._descriptor(shard) for shard in {shard for shard, _ in places}}
        for (shard, offset), buffer in zip(places, buffers, strict=True):
            try:
                got = os.preadv(numbers[shard].number, [buffer], offset)
            except OSError:
                got = -1
            if got != len(buffer):
                self.read(shard, offset, [buffer])  # goes on where this stopped, or says what is wrong

    def check(self, shard: int) -> None:
        """Open the shard, which compares its fingerprint with the index."""
        self._descriptor(shard)

    def expect(self, shards: Iterable[int]) -> None:
        """Hear which shards will be read next, in this order; local ones need no preparation."""

    @contextlib.contextmanager
    def interrupted(self) -> Iterator[None]:
        """Inside the block reads that wait for something give up."""
        yield

    def close(self) -> None:
        """Let go of every file."""
        with self._lock:
            self._open.clear()

    def _descriptor(self, shard: int) -> "_Descriptor":
        with self._lock:
            found = self._open.get(shard)
            if found is None:
                found = self._open[shard] = self._opened(shard)
                if len(self._open) > MAX_OPEN_FILES:
                    # Dropping the reference closes it once no other thread reads from it.
                    self._open.popitem(last=False)
            else:
                self._open.move_to_end(shard)
            return found

    def _opened(self, shard: int) -> "_Descriptor":
        path = self._local(shard)
        try:
            descriptor = _Descriptor(path)
        except FileNotFoundError as error:
            raise DataError(f"{path}: this shard is missing; the index beside it lists it") from error
        except OSError as error:
            raise DataError(f"{path}: cannot be opened ({error.strerror})") from error
        status = os.fstat(descriptor.number)
        is_now = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if self._known.get(shard) == is_now:  # opened again: nothing to compare but what the system says of it
            return descriptor
        if tar.fingerprint(descriptor.number) != self._prints[shard]:
            raise DataError(
                f"{path}: changed since it was indexed; if that is meant, run "
                f"python -m shards.verify {path.parent} --repair"
            )
        self._known[shard] = is_now
        return descriptor

    def _local(self, shard: int) -> Path:
        """Where the shard lies on this machine."""
        path: Path = self.paths[shard]
        return path


class _Descriptor:
    """An open file that closes itself with its last user."""

    def __init__(self, path: Path) -> None:
        self.number = -1
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


def _rest(buffers: Sequence[Any], done: int) -> list[memoryview]:
    """What of the buffers is still to be filled after `done` bytes."""
    left = []
    for buffer in buffers:
        view = memoryview(buffer)
        skipped = min(done, len(view))
        done -= skipped
        if skipped < len(view):
            left.append(view[skipped:])
    return left
