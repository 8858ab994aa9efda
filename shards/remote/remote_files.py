"""Reads from the shards of a remote split: from copies on the node, or member by member over the network."""

import collections
import contextlib
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from quell.configs.errors import DataError, QuellError
from quell.shards.format import index, tar
from quell.shards.format.checksums import crc32
from quell.shards.format.index import IndexHeader, fingerprint_of
from quell.shards.format.positioned_reads import Buffer
from quell.shards.format.shard_files import Descriptor, ShardFiles
from quell.shards.remote.node_cache import CachedSplit
from quell.shards.remote.remote_folder import ReadInterruptedError, Url

CONCURRENT_REQUESTS = 16
"""Requests in flight at once where members are read over the network: most of their time is latency."""


class SourceFolder(Protocol):
    """Where the shards are: a RemoteFolder, or a LocalFolder of which the node keeps copies."""

    @property
    def url(self) -> Url | Path:
        """The folder, as messages name it."""

    @property
    def stop(self) -> threading.Event:
        """Ends all reads with ReadInterruptedError."""

    @property
    def remedy(self) -> str:
        """What the user can do about a shard that its index does not describe."""

    def read(self, name: str, start: int, end: int) -> bytes:
        """Exactly the bytes [start, end) of a file."""

    def chunks(self, name: str, start: int, size: int) -> Generator[bytes, None, None]:
        """The bytes from `start` to the end of a file of `size` bytes."""


class RemoteShardFiles(ShardFiles):
    """The shards of one split that is elsewhere.

    With `is_cached`, a shard is copied to the node when it is first read or announced, compared with the index member
    by member, and read from the copy from then on. Without, each read is a request for its bytes and nothing is kept.
    """

    def __init__(
        self, remote: SourceFolder, cached: CachedSplit, header: IndexHeader, table: np.ndarray, *, is_cached: bool
    ) -> None:
        super().__init__(cached.folder, header["shards"])
        self.remote, self.is_cached, self.are_local = remote, is_cached, is_cached
        self.names = [str(remote.url / shard["name"]) for shard in header["shards"]]
        self.remedy = (
            f"delete {cached.folder} to have it copied again" if is_cached else "upload the shard and its index"
        )
        self.needs_announcing, self.verify_every_read = is_cached, not is_cached
        self.concurrent_reads = 1 if is_cached else CONCURRENT_REQUESTS
        self._cached, self._shards, self._table = cached, header["shards"], table
        self._first = np.cumsum([0] + [shard["samples"] for shard in self._shards])
        """Number of the first sample of each shard."""
        self._expected: collections.deque[int] = collections.deque()
        self._announced: set[int] = set()
        self._fetcher: threading.Thread | None = None
        self._starting = threading.Lock()

    def read(self, shard: int, offset: int, buffers: Sequence[Buffer]) -> None:
        """Fill the buffers, one after the other, from `offset` on. Raises DataError, or MachineError of the network."""
        if self.is_cached:
            super().read(shard, offset, buffers)
            return
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        data = memoryview(self.remote.read(self._shards[shard]["name"], offset, offset + sum(map(len, views))))
        for view in views:
            view[:] = data[: len(view)]
            data = data[len(view) :]

    def check(self, shard: int) -> None:
        """Compare the shard with the index; where it is not kept, every read is verified instead."""
        if self.is_cached:
            super().check(shard)

    def expect(self, shards: Iterable[int]) -> None:
        """Start to download the shards in this order, ahead of the reads."""
        if not self.is_cached:
            return
        new = [shard for shard in dict.fromkeys(shards) if shard not in self._announced]
        self._announced.update(new)
        self._expected.extend(new)
        with self._starting:
            if new and (self._fetcher is None or not self._fetcher.is_alive()):
                self._fetcher = threading.Thread(target=self._fetch_ahead, name="quell-fetch", daemon=True)
                self._fetcher.start()

    @contextlib.contextmanager
    def interrupted(self) -> Iterator[None]:
        """Inside the block reads that wait for the network give up."""
        self.remote.stop.set()
        try:
            yield
        finally:
            with self._starting:
                self._expected.clear()
                self._announced.clear()
                if self._fetcher is not None:
                    self._fetcher.join()
            self.remote.stop.clear()

    def close(self) -> None:
        """Close all files; the copies stay."""
        with self.interrupted():
            super().close()

    def _fetch_ahead(self) -> None:
        # An error ends the downloading ahead only: the read that needs the shard meets it too, and raises it.
        with contextlib.suppress(IndexError, ReadInterruptedError, QuellError):
            while True:
                self._copy(self._expected.popleft(), wait=False)

    def _local_path(self, shard: int) -> Path:
        path = self._copy(shard)
        assert path is not None
        return path

    def _opened(self, shard: int) -> Descriptor:
        try:
            return super()._opened(shard)
        except DataError:  # the copy was verified, so this disk has damaged it since
            self._cached.drop(self._shards[shard]["name"])
            return super()._opened(shard)

    def _copy(self, shard: int, *, wait: bool = True) -> Path | None:
        """The local copy of a shard, downloaded if necessary; None where another process does that, and not `wait`."""
        entry = self._shards[shard]
        return self._cached.file(
            entry["name"],
            lambda start: self.remote.chunks(entry["name"], start, entry["size"]),
            lambda path: self._compare(shard, path),
            wait=wait,
        )

    def _compare(self, shard: int, path: Path) -> None:
        """Raise DataError unless a copy is the shard that was indexed, to the last member."""
        rows = self._table[self._first[shard] : self._first[shard + 1]]
        remedy = self.remote.remedy
        with open(path, "rb") as file:
            if tar.fingerprint(file.fileno()) != fingerprint_of(self._shards[shard]):
                raise DataError(f"{self.names[shard]}: the copy on the node is not what the index lists; {remedy}")
            if "crc" in self._shards[shard] and tar.checksum(file.fileno()) == self._shards[shard]["crc"]:
                return
            for field in (rows.dtype.names or ())[2:]:
                stored = rows[field][rows[field]["kind"] != index.MISSING]
                offsets, sizes, checksums = (stored[column].tolist() for column in ("offset", "size", "crc"))
                for offset, size, crc in zip(offsets, sizes, checksums, strict=True):
                    file.seek(offset)
                    if crc32(file.read(size)) != crc:
                        raise DataError(
                            f"{self.names[shard]}: the checksum of a copied member of field {field} differs from "
                            f"the index; {remedy}"
                        )
            if "crc" in self._shards[shard]:
                raise DataError(
                    f"{self.names[shard]}: the copy on the node differs from the index outside its members; {remedy}"
                )
