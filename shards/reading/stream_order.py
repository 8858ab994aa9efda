"""Which shards a rank reads from front to back in stream mode: a pure function of (seed, epoch, rank, world)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shards.reading.order import Ints, SampleOrder, permute

SHARDS, BLOCKS = 1 << 33, 1 << 34
"""Streams of draws (shards.order.permute) for the order of shards, and from there on for that inside each block."""


class Run(NamedTuple):
    """Neighbouring samples of one shard."""

    shard: int
    first: int
    last: int
    """One after the last."""


class Block(NamedTuple):
    """Samples that are held in memory together and leave it in `order`."""

    epoch: int
    runs: list[Run]
    order: Ints


@dataclass(frozen=True)
class StreamOrder:
    """Each epoch lays the shards end to end in a new order and cuts that row into one part per rank.

    Every sample is in one part exactly, parts differ by one sample at most, and so do the sums of a rank's parts over
    any number of epochs: all ranks make equally many batches. A cut may go through a shard, which two ranks then read.
    A part is shuffled inside consecutive blocks of `buffer` samples.
    """

    counts: tuple[int, ...]
    """Samples of each shard."""
    plan: SampleOrder
    buffer: int

    def part(self, epoch: int) -> tuple[int, int]:
        """Where this rank's part of the row begins and ends."""
        sizes = self._seen(epoch + 1) - self._seen(epoch)
        begin = int(sizes[: self.plan.rank].sum())
        return begin, begin + int(sizes[self.plan.rank])

    def opened_at(self, step: int) -> tuple[int, int]:
        """Epoch, and samples of this rank's part of it that earlier steps took."""
        taken = step * self.plan.micro_batch * self.plan.accumulate
        epoch = taken * self.plan.world // self.plan.epoch_samples
        while int(self._seen(epoch)[self.plan.rank]) > taken:
            epoch -= 1
        while int(self._seen(epoch + 1)[self.plan.rank]) <= taken:
            epoch += 1
        return epoch, taken - int(self._seen(epoch)[self.plan.rank])

    def blocks(self, step: int) -> Iterator[Block]:
        """The blocks from `step` on, without end; of the first the samples that earlier steps took are left out."""
        epoch, taken = self.opened_at(step)
        while True:
            begin, end = self.part(epoch)
            for at in range(begin + taken // self.buffer * self.buffer, end, self.buffer):
                last = min(at + self.buffer, end)
                yield Block(
                    epoch,
                    self._runs(epoch, at, last),
                    self._shuffled(epoch, at, last - at)[max(0, begin + taken - at) :],
                )
            epoch, taken = epoch + 1, 0

    def _seen(self, epochs: int) -> Ints:
        """Samples each rank has seen after so many epochs: (total + rank) // world, which sum up to the total."""
        ranks = np.arange(self.plan.world, dtype=np.int64)
        return (epochs * self.plan.epoch_samples + ranks) // self.plan.world

    def _runs(self, epoch: int, begin: int, end: int) -> list[Run]:
        """The samples at [begin, end) of the epoch's row."""
        shards = np.arange(len(self.counts), dtype=np.int64)
        if self.plan.shuffle:
            shards = permute(shards, size=len(shards), seed=self.plan.seed, epoch=epoch, stream=SHARDS)
        ends = np.cumsum(np.asarray(self.counts, dtype=np.int64)[shards])
        found = []
        for place in range(int(np.searchsorted(ends, begin, side="right")), len(shards)):
            start = int(ends[place]) - self.counts[shards[place]]
            if start >= end:
                break
            first, last = max(begin - start, 0), min(end, int(ends[place])) - start
            if first < last:
                found.append(Run(int(shards[place]), first, last))
        return found

    def _shuffled(self, epoch: int, at: int, size: int) -> Ints:
        places = np.arange(size, dtype=np.int64)
        return (
            permute(places, size=size, seed=self.plan.seed, epoch=epoch, stream=BLOCKS + at)
            if self.plan.shuffle
            else places
        )


def limited(counts: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Samples of each shard when only the first `size` of all are used."""
    before = np.cumsum([0, *counts[:-1]])
    return tuple(int(count) for count in np.clip(size - before, 0, counts))
