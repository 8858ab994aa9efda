"""The open shards of a split: positioned reads, each file checked against its fingerprint when it is opened."""

import collections
import contextlib
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from quell.configs.errors import DataError
from quell.shards.format import tar
from quell.shards.format.index import ShardEntry, fingerprint_of
from quell.shards.format.positioned_reads import Buffer, fill_at, open_binary

MAX_OPEN_FILES = 128
"""Files a process keeps open per split; the least recently used is closed when another shard is needed."""


class ShardFiles:
    """Reads from the shards of one split in a local folder; safe from several threads.

    Reads are positioned: they share no file offset, so threads need no lock, and pixels go from the page
    cache to where they are wanted in one copy. Mapping the tars instead would turn a disk error or a shard that is
    truncated meanwhile into SIGBUS, which kills the process without a message.
    """

    remedy = "copy the shard again, or run python -m shards.verify on its folder"
    """What the user can do about a damaged shard, for messages."""
    verify_every_read = False
    """Whether a second read may return other bytes than the first: then one matching checksum proves nothing for the
    next read."""
    needs_announcing = False
    """Whether `expect` does anything."""
    are_local = True
    """Whether the shards are files of this machine; otherwise each read is a request over the network."""
    concurrent_reads = 1
    """Reads worth having in flight at once."""

    def __init__(self, folder: Path, shards: Sequence[ShardEntry]) -> None:
        self.paths: list[Path] = [folder / shard["name"] for shard in shards]
        self.names: list[str] = [str(path) for path in self.paths]
        """What messages call the shards: their paths or URLs."""
        self._fingerprints = [fingerprint_of(shard) for shard in shards]
        self._open: collections.OrderedDict[int, Descriptor] = collections.OrderedDict()
        self._verified: dict[int, tuple[int, ...]] = {}
        """Shard -> device, inode, size and modification time of the file whose fingerprint matched."""
        self._lock = threading.Lock()

    def read(self, shard: int, offset: int, buffers: Sequence[Buffer]) -> None:
        """Fill the buffers, one after the other, from `offset` on.

        Raises:
            DataError: The shard cannot be read, or ends before the buffers are full.
        """
        descriptor = self._descriptor(shard)
        size = sum(len(buffer) for buffer in buffers)
        try:
            done = fill_at(descriptor.number, buffers, offset)
            while 0 < done < size:  # a signal or a network file system may return less than was requested
                more = fill_at(descriptor.number, _unfilled(buffers, done), offset + done)
                if not more:
                    break
                done += more
        except OSError as error:
            raise DataError(f"{self.names[shard]}: cannot be read at byte {offset} ({error.strerror})") from error
        if done < size:
            raise DataError(
                f"{self.names[shard]}: truncated at byte {offset + done} after it was indexed; copy it again"
            )

    def read_each(self, shards: Sequence[int], offsets: Sequence[int], buffers: Sequence[Buffer]) -> Iterator[None]:
        """Fill each buffer from its place: like many calls of `read`, but each shard is looked up once.

        Yields:
            Whenever a buffer is full, so that several may be the same memory.
        """
        descriptors = {shard: self._descriptor(shard) for shard in set(shards)}
        for shard, offset, buffer in zip(shards, offsets, buffers, strict=True):
            try:
                done = fill_at(descriptors[shard].number, [buffer], offset)
            except OSError:
                done = -1
            if done != len(buffer):
                self.read(shard, offset, [buffer])  # completes a short read, or raises with the reason
            yield

    def check(self, shard: int) -> None:
        """Open a shard, which compares its fingerprint with the index. Raises DataError where they differ."""
        self._descriptor(shard)

    def expect(self, shards: Iterable[int]) -> None:
        """Announce which shards will be read next, in this order; local ones need no preparation."""

    @contextlib.contextmanager
    def interrupted(self) -> Iterator[None]:
        """Inside the block reads that wait for the network give up; local ones never wait."""
        yield

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            self._open.clear()

    def _descriptor(self, shard: int) -> "Descriptor":
        with self._lock:
            descriptor = self._open.get(shard)
            if descriptor is None:
                descriptor = self._open[shard] = self._opened(shard)
                if len(self._open) > MAX_OPEN_FILES:
                    # Another thread may be reading from it: it is closed when the last reference is gone.
                    self._open.popitem(last=False)
            else:
                self._open.move_to_end(shard)
            return descriptor

    def _opened(self, shard: int) -> "Descriptor":
        path = self._local_path(shard)
        try:
            descriptor = Descriptor(path)
        except FileNotFoundError as error:
            raise DataError(f"{path}: this shard is missing; the index beside it lists it") from error
        except OSError as error:
            raise DataError(f"{path}: cannot be opened ({error.strerror})") from error
        status = os.fstat(descriptor.number)
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if self._verified.get(shard) == identity:  # the file whose fingerprint matched before: no need to read it again
            return descriptor
        if tar.fingerprint(descriptor.number) != self._fingerprints[shard]:
            raise DataError(
                f"{path}: changed since it was indexed; if that is intended, run "
                f"python -m shards.verify {path.parent} --repair"
            )
        self._verified[shard] = identity
        return descriptor

    def _local_path(self, shard: int) -> Path:
        """Where the shard is on this machine."""
        return self.paths[shard]


class Descriptor:
    """An open file that is closed when the last reference to it goes."""

    def __init__(self, path: Path) -> None:
        self.number = -1  # where opening fails, __del__ has nothing to close
        self.number = open_binary(path)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


def _unfilled(buffers: Sequence[Buffer], done: int) -> list[memoryview]:
    """The parts of the buffers that are still to be filled after `done` bytes."""
    left = []
    for buffer in buffers:
        view = memoryview(buffer)
        skipped = min(done, len(view))
        done -= skipped
        if skipped < len(view):
            left.append(view[skipped:])
    return left
