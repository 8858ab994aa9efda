"""Which sample comes when: a pure function of (seed, epoch, size), evaluated only where it is asked.

No table is shuffled and nothing is kept between calls, so a run can be opened at any step, by any number of processes,
in the time one batch takes; the order of a hundred million samples costs no more memory than the order of eight.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from configs.errors import ConfigError, DataError

MAX_SIZE = 2**40
ROUNDS = 8

Ints = NDArray[np.int64]


def permute(positions: ArrayLike, *, size: int, seed: int, epoch: ArrayLike, stream: int = 0) -> Ints:
    """The samples at `positions` of a pseudo-random permutation of range(size), keyed by (seed, epoch, stream).

    `positions` int (n,) in [0, size); `epoch` one number or (n,). Returns int64 (n,). A Feistel network over a
    rectangle of rows x columns with at least `size` cells, walked along its cycles until it lands inside (Black and
    Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002): a bijection for every size, without a table.
    """
    places = np.asarray(positions, dtype=np.int64)
    assert 0 < size <= MAX_SIZE, size
    assert places.size == 0 or (places.min() >= 0 and places.max() < size), (places, size)
    rows = math.isqrt(size - 1) + 1
    columns = -(-size // rows)
    epochs = np.unique(np.asarray(epoch, dtype=np.int64))
    keys = _round_keys(seed, epochs, stream)
    keys = keys[:, np.searchsorted(epochs, np.broadcast_to(epoch, places.shape).ravel())]
    values = _rounds(places.ravel().astype(np.uint64), keys, rows, columns)
    outside = np.flatnonzero(values >= size)
    while outside.size:
        values[outside] = _rounds(values[outside], keys[:, outside], rows, columns)
        outside = outside[values[outside] >= size]
    return values.astype(np.int64).reshape(places.shape)


def shift(*, size: int, seed: int, epoch: ArrayLike, stream: int) -> Ints:
    """A step in [1, size) drawn per epoch and stream: the sample that many places on is never the sample itself."""
    if size < 2:
        return np.zeros(np.shape(epoch), dtype=np.int64)
    key = _round_keys(seed, np.asarray(epoch, dtype=np.int64), stream)[-1]
    return (1 + (key % np.uint64(size - 1)).astype(np.int64)).reshape(np.shape(epoch))


def samples_of_rank(size: int, rank: int, world: int) -> Ints:
    """The samples a rank evaluates: contiguous, each sample on exactly one rank, sizes differing by one at most."""
    return np.arange(rank * size // world, (rank + 1) * size // world, dtype=np.int64)


@dataclass(frozen=True)
class SampleOrder:
    """Which samples each micro-batch of each rank holds, for the whole run.

    `batch` is the global batch of one optimizer step. With tail "carry" the epochs are laid end to end and cut into
    batches: every sample exactly once per epoch, every batch full, a batch may hold the end of one epoch and the
    beginning of the next. With "drop" an epoch is size // batch batches and leaves out the rest, another rest each
    epoch. Inside a global batch, micro-batch m is the contiguous block m, and rank r the contiguous block r of that.
    """

    size: int
    batch: int
    seed: int
    rank: int = 0
    world: int = 1
    accumulate: int = 1
    tail: Literal["carry", "drop"] = "carry"
    shuffle: bool = True

    def __post_init__(self) -> None:
        if self.size < 1:
            raise DataError("the training split holds no samples")
        if self.batch < 1 or self.batch % (self.world * self.accumulate):
            raise ConfigError(
                f"data.batch_size {self.batch} does not divide by {self.world} processes x {self.accumulate} "
                "accumulated micro-batches; it is the global batch of one step"
            )
        if self.tail == "drop" and self.size < self.batch:
            raise DataError(f"{self.size} samples do not fill one batch of {self.batch}: use data.tail=carry")
        assert 0 <= self.rank < self.world

    @property
    def micro_batch(self) -> int:
        """Samples this rank loads for one forward pass."""
        return self.batch // (self.world * self.accumulate)

    @property
    def epoch_samples(self) -> int:
        """Samples of one epoch."""
        return self.size if self.tail == "carry" else self.size // self.batch * self.batch

    def steps(self, epochs: float) -> int:
        """Optimizer steps after which `epochs` epochs are complete."""
        return math.ceil(round(epochs * self.epoch_samples / self.batch, 9))

    def epoch_at(self, step: int) -> float:
        """Epochs of data seen after `step` steps."""
        return step * self.batch / self.epoch_samples

    def ends_epoch(self, step: int) -> bool:
        """Whether finishing step number `step` (from 0) completes an epoch."""
        return (step + 1) * self.batch // self.epoch_samples > step * self.batch // self.epoch_samples

    def places(self, step: int, micro: int) -> tuple[Ints, Ints]:
        """Epoch number and place within the epoch, int64 (n,), of this rank's micro-batch."""
        assert step >= 0 and 0 <= micro < self.accumulate
        first = step * self.batch + (micro * self.world + self.rank) * self.micro_batch
        stream_positions = np.arange(first, first + self.micro_batch, dtype=np.int64)
        return stream_positions // self.epoch_samples, stream_positions % self.epoch_samples

    def samples(self, step: int, micro: int) -> tuple[Ints, Ints]:
        """Epoch number and sample index, int64 (n,), of this rank's micro-batch."""
        epochs, places = self.places(step, micro)
        return epochs, self._ordered(places, epochs)

    def others(self, step: int, micro: int, stream: int) -> Ints:
        """Samples unrelated to `samples` for fields drawn on their own: never the same sample (unless size is 1),
        and over an epoch with tail "carry" again every sample exactly once.
        """
        epochs, places = self.places(step, micro)
        return self._ordered(self._moved(epochs, places, stream), epochs)

    def block(self, step: int, count: int, streams: Sequence[int] = ()) -> tuple[Ints, Ints, dict[int, Ints]]:
        """Epochs, samples and `others` of each stream for `count` steps at once, each (count, accumulate, n): the same
        numbers at a fraction of the cost.
        """
        found = [self.places(step + i, micro) for i in range(count) for micro in range(self.accumulate)]
        shape = (count, self.accumulate, self.micro_batch)
        epochs, places = (np.concatenate(part).reshape(shape) for part in zip(*found, strict=True))
        others = {stream: self._ordered(self._moved(epochs, places, stream), epochs) for stream in streams}
        return epochs, self._ordered(places, epochs), others

    def _moved(self, epochs: Ints, places: Ints, stream: int) -> Ints:
        return (places + shift(size=self.size, seed=self.seed, epoch=epochs, stream=stream)) % self.size

    def _ordered(self, places: Ints, epochs: Ints) -> Ints:
        if not self.shuffle:
            return places
        return permute(places, size=self.size, seed=self.seed, epoch=epochs)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): every bit in depends on every bit out."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _round_keys(seed: int, epoch: Ints, stream: int) -> NDArray[np.uint64]:
    """One key per round and epoch, uint64 (ROUNDS, n or 1)."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        key = _mix(np.array([seed % 2**64], dtype=np.uint64) + golden)
        key = _mix(key ^ np.array([stream % 2**64], dtype=np.uint64) * golden + golden)
        key = _mix(key + epoch.ravel().astype(np.uint64) * golden)
        return _mix(key[None, :] + np.arange(1, ROUNDS + 1, dtype=np.uint64)[:, None] * golden)


def _rounds(values: NDArray[np.uint64], keys: NDArray[np.uint64], rows: int, columns: int) -> NDArray[np.uint64]:
    """One pass through the network: row and column take turns being moved by a hash of the other."""
    sides = (np.uint64(rows), np.uint64(columns))
    row, column = values // sides[1], values % sides[1]
    low = np.uint64(32)
    with np.errstate(over="ignore"):
        for number in range(0, ROUNDS, 2):
            # hash >> 32 scaled to [0, side): cheaper than a remainder, and sides stay far below 2**32.
            row = (row + ((_mix(column + keys[number]) >> low) * sides[0] >> low)) % sides[0]
            column = (column + ((_mix(row + keys[number + 1]) >> low) * sides[1] >> low)) % sides[1]
    return row * sides[1] + column
