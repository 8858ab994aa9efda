"""Which sample comes when: a pure function of (seed, epoch, size), evaluated only where it is needed.

No table is shuffled and nothing is kept between calls, so a run can be opened at any step, by any number of processes,
in the time one batch takes; the order of a hundred million samples costs no more memory than the order of eight.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quell.configs.batching import batch_problem
from quell.configs.errors import ConfigError, DataError
from quell.shards.reading.draws.splitmix import GOLDEN, key_of, mix

MAX_SIZE = 2**40
ROUNDS = 8
"""Of the Feistel network. With an ideal hash four are enough for large domains (Luby and Rackoff, SIAM J. Comput. 17,
1988); a few hundred samples need more."""

Ints = NDArray[np.int64]


def permute(positions: ArrayLike, *, size: int, seed: int, epoch: ArrayLike, stream: int = 0) -> Ints:
    """Evaluate a pseudo-random permutation of range(size), keyed by (seed, epoch, stream), at some positions.

    A table of the permutation would cost memory per process and time at each epoch and each resume. Instead, positions
    are encrypted: a Feistel network permutes the cells of a rectangle of rows x columns, the smallest near-square one
    with at least `size` cells, and a position whose image lies outside range(size) is encrypted again until it lies
    inside (cycle walking; Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002). As a permutation
    of the rectangle consists of cycles, this ends, and what it returns is a permutation of range(size). Fewer cells are
    outside than the rectangle has rows, so that few positions take more than one pass.

    Args:
        positions: int (n,) in [0, size).
        size: Number of samples, at most MAX_SIZE.
        seed: Any integer.
        epoch: One number, or one per position (n,).
        stream: Separates permutations that serve different purposes.

    Returns:
        The samples, int64 (n,).
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
    """A distance in [1, size) per epoch and stream: that many places on there is never the same sample again."""
    if size < 2:
        return np.zeros(np.shape(epoch), dtype=np.int64)
    key = _round_keys(seed, np.asarray(epoch, dtype=np.int64), stream)[-1]
    return (1 + (key % np.uint64(size - 1)).astype(np.int64)).reshape(np.shape(epoch))


def samples_of_rank(size: int, rank: int, world: int) -> Ints:
    """The samples a rank evaluates, int64 (n,).

    They are contiguous, each sample belongs to exactly one of the `world` ranks, and n differs by one at most.
    """
    return np.arange(rank * size // world, (rank + 1) * size // world, dtype=np.int64)


class OrderBlock(NamedTuple):
    """The order of several steps; arrays are int64 (steps, accumulate, n)."""

    epochs: Ints
    samples: Ints
    unpaired: dict[int, Ints]
    """Stream -> samples that are unrelated to `samples`."""

    def batches(self, begin: int, end: int) -> "OrderBlock":
        """The micro-batches of the steps [begin, end), one after the other: arrays (batches, n)."""
        arrays = (self.epochs, self.samples, *self.unpaired.values())
        epochs, samples, *unpaired = (values[begin:end].reshape(-1, values.shape[-1]) for values in arrays)
        return OrderBlock(epochs, samples, dict(zip(self.unpaired, unpaired, strict=True)))


@dataclass(frozen=True)
class SampleOrder:
    """Which samples each micro-batch of each rank holds, for the whole run.

    Inside a global batch, micro-batch m is the contiguous block number m, and rank r has the contiguous block number r
    of that: the global batch is the same for every number of ranks and accumulation steps.

    Args:
        size: Samples of the split that are used.
        batch: Samples of one optimizer step, over all ranks and micro-batches.
        seed: Of the shuffling.
        rank: Of this process.
        world: Number of processes.
        accumulate: Micro-batches per optimizer step.
        tail: With "carry" epochs are laid end to end and cut into batches: every sample exactly once per epoch, every
            batch full; a batch may hold the end of one epoch and the beginning of the next. With "drop" an epoch is
            size // batch batches and leaves out the remaining samples, which are others in each epoch.
        shuffle: False keeps the stored order.

    Raises:
        ConfigError: The batch cannot be divided among ranks and micro-batches.
        DataError: There are no samples, or fewer than one batch with tail "drop".
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
        if problem := batch_problem(self.batch, world_size=self.world, accumulate=self.accumulate):
            raise ConfigError(problem)
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
        """Epochs completed after `step` steps."""
        return step * self.batch / self.epoch_samples

    def ends_epoch(self, step: int) -> bool:
        """Whether step number `step` (from 0) completes an epoch."""
        return (step + 1) * self.batch // self.epoch_samples > step * self.batch // self.epoch_samples

    def positions(self, step: int, micro: int) -> tuple[Ints, Ints]:
        """Epoch and position within the epoch of each sample of this rank's micro-batch, int64 (n,) each."""
        assert step >= 0 and 0 <= micro < self.accumulate
        first = step * self.batch + (micro * self.world + self.rank) * self.micro_batch
        over_all_epochs = np.arange(first, first + self.micro_batch, dtype=np.int64)
        return over_all_epochs // self.epoch_samples, over_all_epochs % self.epoch_samples

    def samples(self, step: int, micro: int) -> tuple[Ints, Ints]:
        """Epoch and number of each sample of this rank's micro-batch, int64 (n,) each."""
        epochs, positions = self.positions(step, micro)
        return epochs, self._ordered(positions, epochs)

    def unpaired(self, step: int, micro: int, stream: int) -> Ints:
        """Samples unrelated to `samples`, int64 (n,), for the unpaired fields of one stream.

        They are the same permutation, shifted: never the same sample (unless size is 1), and with tail "carry" every
        sample exactly once per epoch.
        """
        epochs, positions = self.positions(step, micro)
        return self._ordered(self._shifted(epochs, positions, stream), epochs)

    def block(self, step: int, count: int, streams: Sequence[int] = ()) -> OrderBlock:
        """`samples` and `unpaired` of `count` steps at once: the same numbers at a fraction of the cost."""
        per_micro_batch = [self.positions(step + i, micro) for i in range(count) for micro in range(self.accumulate)]
        shape = (count, self.accumulate, self.micro_batch)
        epochs, positions = (np.concatenate(part).reshape(shape) for part in zip(*per_micro_batch, strict=True))
        unpaired = {stream: self._ordered(self._shifted(epochs, positions, stream), epochs) for stream in streams}
        return OrderBlock(epochs, self._ordered(positions, epochs), unpaired)

    def _shifted(self, epochs: Ints, positions: Ints, stream: int) -> Ints:
        return (positions + shift(size=self.size, seed=self.seed, epoch=epochs, stream=stream)) % self.size

    def _ordered(self, positions: Ints, epochs: Ints) -> Ints:
        if not self.shuffle:
            return positions
        return permute(positions, size=self.size, seed=self.seed, epoch=epochs)


def _round_keys(seed: int, epoch: Ints, stream: int) -> NDArray[np.uint64]:
    """One key per round and epoch, uint64 (ROUNDS, n)."""
    with np.errstate(over="ignore"):
        key = mix(key_of(seed, stream) + epoch.ravel().astype(np.uint64) * GOLDEN)
        return mix(key[None, :] + np.arange(1, ROUNDS + 1, dtype=np.uint64)[:, None] * GOLDEN)


def _rounds(values: NDArray[np.uint64], keys: NDArray[np.uint64], rows: int, columns: int) -> NDArray[np.uint64]:
    """One pass through the Feistel network: row and column take turns at being shifted by a hash of the other.

    Each round can be undone (the other coordinate, and so the hash, is unchanged), which makes the pass a bijection
    whatever the hash is.
    """
    sides = (np.uint64(rows), np.uint64(columns))
    row, column = values // sides[1], values % sides[1]
    low = np.uint64(32)
    with np.errstate(over="ignore"):
        for number in range(0, ROUNDS, 2):
            # (hash >> 32) * side >> 32 is in [0, side): cheaper than a remainder, and sides stay far below 2**32.
            row = (row + ((mix(column + keys[number]) >> low) * sides[0] >> low)) % sides[0]
            column = (column + ((mix(row + keys[number + 1]) >> low) * sides[1] >> low)) % sides[1]
    return row * sides[1] + column
