"""Stream mode: shards read from front to back and never kept, for data that fits no node's disk.

The order, and what is weaker about it than in indexed mode, is that of shards.stream_order.
"""

import itertools
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import DataError
from shards.format import index
from shards.format import members as _members
from shards.format.members import Head
from shards.format.open_files import Files
from shards.reading.batch_assembler import BatchAssembler, Verify
from shards.reading.loaders import BackgroundLoader, Batch, pool_for
from shards.reading.order import SampleOrder
from shards.reading.prefetch import Prefetcher
from shards.reading.recipe import Recipe
from shards.reading.shard_set import Member, ShardSet
from shards.reading.stream_order import Run, StreamOrder, limited
from shards.reading.tar_stream import Members, samples
from shards.remote.opening import read_header
from shards.remote.store import Store

WEAKER = (
    "data.mode stream: samples are shuffled by shards, and inside blocks of data.stream_buffer samples only; a "
    "resumed run repeats the order exactly with as many processes as before, after reading up to one shard and "
    "one block again; with another number of processes some samples of the epoch under way come twice and others "
    "not at all; a damaged shard is noticed at its end, after its samples were used"
)
"""What a user must know before choosing this mode."""


@dataclass(frozen=True)
class _Held:
    """One sample in memory, not decoded yet."""

    number: int
    epoch: int
    shard: int
    key: str
    members: Members


class StreamedSet(ShardSet):
    """A split of which only the index header and the samples of the current batch are in memory."""

    def __init__(self, store: Store, header: dict[str, Any]) -> None:
        super().__init__(
            store.url, header, np.zeros(0), index_path=Path(), files=_Files(store, header["shards"]), notes=[WEAKER]
        )
        self.store, self._samples = store, int(header["samples"])
        self._numbers = {kind: number for number, kind in enumerate(self.kinds)}
        self._held: dict[int, _Held] = {}

    @classmethod
    def open_stream(cls, url: str, retries: int) -> "StreamedSet":
        """The split at a URL or a local path. Raises DataError when it has no index, or a damaged one."""
        return cls(*read_header(url if "://" in url else f"file://{Path(url).resolve()}", retries))

    def __len__(self) -> int:
        return self._samples

    def hold(self, held: Sequence[_Held]) -> None:
        """Make these samples the ones that can be read."""
        self._held = {one.number: one for one in held}

    def key(self, sample: int) -> str:
        """The sample's name in its shard."""
        return self._held[sample].key

    def keys(self, samples: Sequence[int] | np.ndarray) -> list[str]:
        """The names of several samples."""
        return [self.key(int(sample)) for sample in samples]

    def column(self, field: str) -> np.ndarray:
        """There is no table, which is only asked about fields that some samples lack."""
        raise DataError(f"{self.path}: some samples lack field {field}; leave them out or build the split again")

    def locate(self, samples: Sequence[int] | np.ndarray, field: str) -> list[Member]:
        """What the held samples say about one field. Raises DataError where it is not what the index says."""
        return [self._member(self._held[int(sample)], field) for sample in samples]

    def can_read_directly(self, member: Member, pixel_bytes: int) -> bool:
        """Nothing can be read from disk."""
        return False

    def read_into(self, sample: int, field: str, member: Member, out: np.ndarray, *, verify: bool) -> bool:
        """Nothing can be read from disk."""
        return False

    def read_rows(self, sample: int, field: str, member: Member, top: int, height: int) -> np.ndarray:
        """Rows `top` to `top + height` of an image as stored."""
        return self.read_member(sample, field, member, verify=False)[top : top + height]

    def _bytes(self, sample: int, field: str, member: Member, verify: bool) -> Any:
        return self._held[sample].members[field][1]

    def _member(self, held: _Held, field: str) -> Member:
        where = f"{self.files.paths[held.shard]}: sample {held.key}: field {field}"
        if field not in held.members:
            raise DataError(f"{where} is missing")
        codec, data = held.members[field]
        try:
            head = _members.head(codec, data, len(data))
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        self._refuse_other(where, field, head)
        kind, sides = self._numbers[head.kind], (*head.shape, 0, 0, 0)[:3]
        return Member._make((0, len(data), 0, head.start, kind, len(head.shape), *sides, held.shard))

    def _refuse_other(self, where: str, field: str, head: Head) -> None:
        info, shape = self.fields[field], index.plain_shape(head.shape)
        channels = shape[2] if len(shape) == 3 else 1
        known = head.kind in self._numbers and (np.dtype(head.kind.dtype).name, channels) == (info.dtype, info.channels)
        if not known or info.shape not in (None, shape) or min(shape[:2]) < min(info.smallest):
            raise DataError(f"{where} is {shape} of {head.kind.dtype}, not what the index says; {self.files.remedy}")


class _Files(Files):
    """Names for messages, and the way to end waiting for the network; nothing is read through it."""

    remedy = "upload the shard and its index again"

    def __init__(self, store: Store, shards: Sequence[dict[str, Any]]) -> None:
        super().__init__(Path(), shards)
        self.paths = [store.url / shard["name"] for shard in shards]
        self._stop = store.stop

    @contextmanager
    def interrupted(self) -> Iterator[None]:
        """Inside the block reads that wait for the network give up."""
        self._stop.set()
        try:
            yield
        finally:
            self._stop.clear()


class StreamLoader(BackgroundLoader):
    """The training batches of one rank in stream mode, with the interface of shards.loader.Loader.

    `buffer` samples and as many of the next block are in memory undecoded. A field with a draw of its own shows a
    sample that comes a little later.
    """

    def __init__(
        self,
        shards: StreamedSet,
        plan: SampleOrder,
        recipe: Recipe,
        *,
        buffer: int,
        start_step: int = 0,
        steps: int | None = None,
        prefetch: int = 2,
        verify: Verify = "first",
        pin: bool = False,
        threads: int | None = None,
    ) -> None:
        counts = tuple(shard["samples"] for shard in shards.shards)
        self._shards, self._plan, self._steps = shards, plan, steps
        self._order = StreamOrder(limited(counts, plan.size), plan, buffer)
        self._first = np.cumsum([0, *counts])
        self._pool = pool_for(shards, recipe, threads)
        self._filler = BatchAssembler(shards, recipe, seed=plan.seed, verify=verify, pin=pin, pool=self._pool)
        self._ahead = Prefetcher(self._batches(start_step), prefetch)

    def __enter__(self) -> "StreamLoader":
        return self

    def __iter__(self) -> Iterator[list[Batch]]:
        return iter(self._ahead)

    def _batches(self, start: int) -> Generator[list[Batch], None, None]:
        waiting: deque[_Held] = deque()
        with closing(self._samples(start)) as coming:
            for _ in itertools.count() if self._steps is None else range(self._steps):
                yield [self._batch(waiting, coming) for _ in range(self._plan.accumulate)]

    def _batch(self, waiting: deque[_Held], coming: Iterator[_Held]) -> Batch:
        size, streams = self._plan.micro_batch, self._filler.streams
        while len(waiting) < size + len(streams) + 1:
            waiting.append(next(coming))
        held = list(waiting)
        self._shards.hold(held)
        mine = held[:size]
        others = {
            stream: np.array([_other(held, i, place, len(streams)) for i in range(size)], dtype=np.int64)
            for place, stream in enumerate(streams, 1)
        }
        batch = self._filler.batch(
            np.array([one.epoch for one in mine], dtype=np.int64),
            np.array([one.number for one in mine], dtype=np.int64),
            others,
        )
        for _ in mine:
            waiting.popleft()
        return batch

    def _samples(self, start: int) -> Generator[_Held, None, None]:
        """This rank's samples; while those of one block are given out, the next block is read."""
        with closing(_Reader(self._shards, self._first)) as reader:
            blocks = self._order.blocks(start)
            block = next(blocks)
            held = list(reader.read(block.epoch, block.runs))
            for following in blocks:
                source = reader.read(following.epoch, following.runs)
                next_held: list[_Held] = []
                for place in block.order.tolist():
                    yield held[place]
                    next_held += itertools.islice(source, 1)
                next_held += source
                block, held = following, next_held


class _Reader:
    """Reads runs of samples; goes on in the shard it is in where it can."""

    def __init__(self, shards: StreamedSet, first: np.ndarray) -> None:
        self._set, self._first = shards, first
        self._open: Generator[tuple[str, Members], None, None] | None = None
        self._place: tuple[int, int, int] = (-1, -1, 0)
        """Epoch, shard and the sample that comes next in it."""

    def read(self, epoch: int, runs: Sequence[Run]) -> Iterator[_Held]:
        """The samples of the runs, in order."""
        for run in runs:
            at = self._place[2] if self._place[:2] == (epoch, run.shard) else run.first + 1
            if self._open is None or at > run.first:
                self.close()
                shard = self._set.shards[run.shard]
                pieces = self._set.store.pieces(shard["name"], 0, shard["size"])
                self._open, at = samples(pieces, shard, str(self._set.files.paths[run.shard])), 0
            for number, (key, members) in enumerate(itertools.islice(self._open, run.last - at), at):
                self._place = (epoch, run.shard, number + 1)
                if number >= run.first:
                    yield _Held(int(self._first[run.shard]) + number, epoch, run.shard, key, members)
            if run.last == self._set.shards[run.shard]["samples"]:
                for _ in self._open:  # none are left: this compares the whole shard with the index
                    pass

    def close(self) -> None:
        """Stop reading."""
        if self._open is not None:
            self._open.close()
        self._open = None


def _other(held: Sequence[_Held], place: int, step: int, streams: int) -> int:
    """A sample `step` places on; another one where that is the same sample in the next epoch."""
    found = held[place + step]
    return (held[place + streams + 1] if found.number == held[place].number else found).number
