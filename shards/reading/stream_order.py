"""Which shards a rank reads from front to back in stream mode: a pure function of (seed, epoch, rank, world)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from quell.shards.reading.order import Ints, SampleOrder, permute

SHARD_STREAM, BLOCK_STREAM = 1 << 33, 1 << 34
"""Streams (`order.permute`) of the order of the shards, and of the order inside each block: the latter is that number
plus the position where the block starts."""


class SampleRun(NamedTuple):
    """The samples [first, last) of one shard."""

    shard: int
    first: int
    last: int


class ShuffleBlock(NamedTuple):
    """Samples that are in memory together, and the order in which they leave it (positions among `runs`)."""

    epoch: int
    runs: list[SampleRun]
    order: Ints


@dataclass(frozen=True)
class StreamOrder:
    """The order of one rank: in each epoch the shards form a row in a new order, and each rank reads a part of it.

    Every sample is in exactly one part. Parts differ by one sample at most, and so do the sums of a rank's parts over
    any number of epochs: all ranks have equally many batches. A part may begin or end inside a shard, which two ranks
    then read. Inside a part consecutive blocks of `buffer` samples are shuffled.

    Args:
        counts: Samples of each shard.
        order: Batches, ranks, seed and tail; which samples the batches hold is decided here.
        buffer: Samples of a block.
    """

    counts: tuple[int, ...]
    order: SampleOrder
    buffer: int

    def part(self, epoch: int) -> tuple[int, int]:
        """The positions [begin, end) of the row that this rank reads."""
        sizes = self._seen(epoch + 1) - self._seen(epoch)
        begin = int(sizes[: self.order.rank].sum())
        return begin, begin + int(sizes[self.order.rank])

    def opened_at(self, step: int) -> tuple[int, int]:
        """The epoch that `step` is in, and how many samples of this rank's part earlier steps took."""
        taken = step * self.order.micro_batch * self.order.accumulate
        epoch = taken * self.order.world // self.order.epoch_samples
        while int(self._seen(epoch)[self.order.rank]) > taken:
            epoch -= 1
        while int(self._seen(epoch + 1)[self.order.rank]) <= taken:
            epoch += 1
        return epoch, taken - int(self._seen(epoch)[self.order.rank])

    def blocks(self, step: int) -> Iterator[ShuffleBlock]:
        """The blocks from `step` on, without end; the order of the first leaves out what earlier steps took."""
        epoch, taken = self.opened_at(step)
        while True:
            begin, end = self.part(epoch)
            for start in range(begin + taken // self.buffer * self.buffer, end, self.buffer):
                stop = min(start + self.buffer, end)
                order = self._shuffled(epoch, start, stop - start)[max(0, begin + taken - start) :]
                yield ShuffleBlock(epoch, self._runs(epoch, start, stop), order)
            epoch, taken = epoch + 1, 0

    def _seen(self, epochs: int) -> Ints:
        """Samples each rank has seen after so many epochs: (total + rank) // world, which sum up to the total."""
        ranks = np.arange(self.order.world, dtype=np.int64)
        return (epochs * self.order.epoch_samples + ranks) // self.order.world

    def _runs(self, epoch: int, begin: int, end: int) -> list[SampleRun]:
        """The samples at positions [begin, end) of the epoch's row."""
        shards = np.arange(len(self.counts), dtype=np.int64)
        if self.order.shuffle:
            shards = permute(shards, size=len(shards), seed=self.order.seed, epoch=epoch, stream=SHARD_STREAM)
        ends = np.cumsum(np.asarray(self.counts, dtype=np.int64)[shards])
        runs = []
        for place in range(int(np.searchsorted(ends, begin, side="right")), len(shards)):
            start = int(ends[place]) - self.counts[shards[place]]
            if start >= end:
                break
            first, last = max(begin - start, 0), min(end, int(ends[place])) - start
            if first < last:
                runs.append(SampleRun(int(shards[place]), first, last))
        return runs

    def _shuffled(self, epoch: int, start: int, size: int) -> Ints:
        positions = np.arange(size, dtype=np.int64)
        if not self.order.shuffle:
            return positions
        return permute(positions, size=size, seed=self.order.seed, epoch=epoch, stream=BLOCK_STREAM + start)


def limited(counts: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Samples of each shard when only the first `size` of the split are used."""
    before = np.cumsum([0, *counts[:-1]])
    return tuple(int(count) for count in np.clip(size - before, 0, counts))
