"""Reads from the shards of a remote split: from whole copies on the node, or member by member over the network."""

import collections
import contextlib
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import DataError, QuellError
from shards.format import index, tar
from shards.format.open_files import Files
from shards.remote.cache import Kept
from shards.remote.store import ReadInterruptedError, Store

RANGED_THREADS = 16
"""Requests under way at once where members are read over the network: most of their time is waiting."""


class RemoteFiles(Files):
    """The shards of one remote split.

    With `whole`, a shard is copied to the node when it is first read or expected, compared with the index member by
    member, and read from there ever after. Without, each read is a request for its bytes and nothing is kept.
    """

    def __init__(self, store: Store, kept: Kept, header: dict[str, Any], table: np.ndarray, *, whole: bool) -> None:
        super().__init__(kept.folder, header["shards"])
        self.store, self.whole = store, whole
        self.paths = [store.url / shard["name"] for shard in header["shards"]]
        self.remedy = f"delete {kept.folder} to have it fetched again" if whole else "upload the shard and its index"
        self.anticipates, self.verify_every_read, self.threads = whole, not whole, 1 if whole else RANGED_THREADS
        self._kept, self._shards, self._table = kept, header["shards"], table
        self._first = np.cumsum([0] + [shard["samples"] for shard in self._shards])
        self._expected: collections.deque[int] = collections.deque()
        self._announced: set[int] = set()
        self._fetcher: threading.Thread | None = None
        self._starting = threading.Lock()

    def read(self, shard: int, offset: int, buffers: Sequence[Any]) -> None:
        """Fill the buffers, one after the other, from `offset` on."""
        if self.whole:
            super().read(shard, offset, buffers)
            return
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        data = memoryview(self.store.read(self._shards[shard]["name"], offset, offset + sum(map(len, views))))
        for view in views:
            view[:] = data[: len(view)]
            data = data[len(view) :]

    def read_many(self, places: Sequence[tuple[int, int]], buffers: Sequence[Any]) -> None:
        """Fill each buffer from its (shard, offset)."""
        if self.whole:
            super().read_many(places, buffers)
            return
        for (shard, offset), buffer in zip(places, buffers, strict=True):
            self.read(shard, offset, [buffer])

    def check(self, shard: int) -> None:
        """Compare the shard with the index; where it is not kept that is done read by read."""
        if self.whole:
            super().check(shard)

    def expect(self, shards: Iterable[int]) -> None:
        """Start fetching the shards in this order, ahead of the reads."""
        if not self.whole:
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
        self.store.stop.set()
        try:
            yield
        finally:
            with self._starting:
                self._expected.clear()
                self._announced.clear()
                if self._fetcher is not None:
                    self._fetcher.join()
            self.store.stop.clear()

    def close(self) -> None:
        """Let go of every file; the copies stay."""
        with self.interrupted():
            super().close()

    def _fetch_ahead(self) -> None:
        # An error ends the fetching ahead only: the read that needs the shard meets it too, and raises it.
        with contextlib.suppress(IndexError, ReadInterruptedError, QuellError):
            while True:
                self._copy(self._expected.popleft(), wait=False)

    def _local(self, shard: int) -> Path:
        path = self._copy(shard)
        assert path is not None
        return path

    def _opened(self, shard: int) -> Any:
        try:
            return super()._opened(shard)
        except DataError:  # damaged on this disk after it was verified
            self._kept.drop(self._shards[shard]["name"])
            return super()._opened(shard)

    def _copy(self, shard: int, *, wait: bool = True) -> Path | None:
        noted = self._shards[shard]
        return self._kept.file(
            noted["name"],
            lambda at: self.store.pieces(noted["name"], at, noted["size"]),
            lambda path: self._compare(shard, path),
            wait=wait,
        )

    def _compare(self, shard: int, path: Path) -> None:
        """Raise DataError unless a copy is the shard that was indexed, to the last member."""
        rows, noted = self._table[self._first[shard] : self._first[shard + 1]], self._shards[shard]
        advice = "it changed since it was indexed, or its index did: upload both again"
        with open(path, "rb") as file:
            if tar.fingerprint(file.fileno()) != tar.Fingerprint(noted["size"], noted["head"], noted["tail"]):
                raise DataError(f"{self.paths[shard]}: what was fetched is not what the index lists; {advice}")
            for name in (rows.dtype.names or ())[2:]:
                members = rows[name][rows[name]["kind"] != index.MISSING]
                for offset, size, crc in zip(
                    *(members[part].tolist() for part in ("offset", "size", "crc")), strict=True
                ):
                    file.seek(offset)
                    if zlib.crc32(file.read(size)) != crc:
                        raise DataError(
                            f"{self.paths[shard]}: a member of field {name} that was fetched has another "
                            f"checksum than in the index; {advice}"
                        )
