"""Batches ahead of the step: a thread fills them while the model works on the last one."""

import itertools
import os
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from shards.format.members import IMAGES
from shards.reading.batch_assembler import BatchAssembler, Verify, same_sized_runs
from shards.reading.order import SampleOrder
from shards.reading.prefetch import Prefetcher
from shards.reading.recipe import Recipe, bind
from shards.reading.shard_set import ShardSet

Batch = dict[str, Any]
Block = tuple[np.ndarray, np.ndarray, dict[int, np.ndarray]]
"""Epochs, samples and those of other draws of several steps, as shards.order.SampleOrder.block gives them."""
BLOCK_STEPS = 32
"""Steps whose order is computed together."""


class BackgroundLoader:
    """What all loaders share: the thread, its waiting time, and closing in every path."""

    _ahead: Prefetcher[Any]
    _filler: BatchAssembler
    _pool: ThreadPoolExecutor | None

    @property
    def wait_s(self) -> float:
        """Seconds the consumer has waited for data so far."""
        return self._ahead.wait_s

    def close(self) -> None:
        """Stop the thread and let go of batches made ahead; safe to call twice."""
        with self._filler.shards.files.interrupted():
            self._ahead.close()
        if self._pool is not None:
            self._pool.shutdown()

    def __exit__(self, *_: object) -> None:
        self.close()


class Loader(BackgroundLoader):
    """The training batches of one rank: each step a list of `plan.accumulate` micro-batches.

    Opens at `start_step` at once, whatever its number, and ends after `steps` steps (None: never). Use it as a context
    manager. Errors name the shard and the sample and are raised where the batch is asked for.
    """

    def __init__(
        self,
        shards: ShardSet,
        plan: SampleOrder,
        recipe: Recipe,
        *,
        start_step: int = 0,
        steps: int | None = None,
        prefetch: int = 2,
        verify: Verify = "first",
        pin: bool = False,
        threads: int | None = None,
    ) -> None:
        assert plan.size <= len(shards)
        self._plan, self._steps = plan, steps
        self._pool = pool_for(shards, recipe, threads)
        self._filler = BatchAssembler(shards, recipe, seed=plan.seed, verify=verify, pin=pin, pool=self._pool)
        self._ahead = Prefetcher(self._batches(start_step), prefetch)

    def __enter__(self) -> "Loader":
        return self

    def __iter__(self) -> Iterator[list[Batch]]:
        return iter(self._ahead)

    def _batches(self, start: int) -> Generator[list[Batch], None, None]:
        filler = self._filler
        blocks = self._blocks(start)
        for epochs, samples, others in self._announced(blocks) if filler.shards.files.anticipates else blocks:
            for step in range(len(epochs)):
                yield [
                    filler.batch(
                        epochs[step, micro],
                        samples[step, micro],
                        {stream: indices[step, micro] for stream, indices in others.items()},
                    )
                    for micro in range(self._plan.accumulate)
                ]

    def _blocks(self, start: int) -> Iterator[Block]:
        """The order of the steps from `start` on, so many at once as are worth computing together."""
        for first in itertools.count(start, BLOCK_STEPS):
            left = BLOCK_STEPS if self._steps is None else min(BLOCK_STEPS, start + self._steps - first)
            if left <= 0:
                return
            yield self._plan.block(first, left, self._filler.streams)

    def _announced(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """The same blocks; the shards of each are announced before the block in front of it is read."""
        waiting: list[Block] = []
        for block in blocks:
            self._filler.expect(block[1], block[2].values())
            yield from waiting
            waiting = [block]
        yield from waiting


class EvalLoader(BackgroundLoader):
    """Whole images, as stored but for units: no crop, no mirroring, no phase; neighbours of one size together.

    `indices` are the samples of this rank (`samples_of_rank`). Fields with a draw of their own show the sample itself.
    """

    def __init__(
        self,
        shards: ShardSet,
        indices: np.ndarray,
        recipe: Recipe,
        batch: int,
        *,
        seed: int = 0,
        prefetch: int = 2,
        verify: Verify = "first",
        pin: bool = False,
        threads: int | None = None,
    ) -> None:
        whole = Recipe(recipe.fields, recipe.normals, normalise=recipe.normalise, representation=recipe.representation)
        self._pool = pool_for(shards, whole, threads)
        self._filler = BatchAssembler(
            shards, whole, seed=seed, verify=verify, pin=pin, random_geometry=False, pool=self._pool
        )
        self._runs = same_sized_runs(shards, np.asarray(indices), self._filler.fields[0].member, batch)
        self._ahead = Prefetcher(self._batches(), prefetch)

    def __len__(self) -> int:
        return len(self._runs)

    def __enter__(self) -> "EvalLoader":
        return self

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._ahead)

    def _batches(self) -> Generator[Batch, None, None]:
        if self._filler.shards.files.anticipates:
            for run in self._runs:
                self._filler.expect(run, ())
        for run in self._runs:
            others = dict.fromkeys(self._filler.streams, run)
            yield self._filler.batch(np.zeros(len(run), dtype=np.int64), run, others)


def pool_for(shards: ShardSet, recipe: Recipe, threads: int | None) -> ThreadPoolExecutor | None:
    """Threads that decode or fetch images side by side; plain arrays on a disk are faster without."""
    encoded = any(kind.codec in IMAGES for kind in shards.kinds) and bind(recipe, shards)
    usual = max(min(4, os.cpu_count() or 1) if encoded else 1, shards.files.threads)
    count = usual if threads is None else threads
    return ThreadPoolExecutor(count, thread_name_prefix="quell-decode") if count > 1 else None
