"""Loaders: a thread assembles the next batches while the model works on the last one."""

import itertools
import os
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from quell.configs.errors import DataError
from quell.shards.format.members import IMAGES
from quell.shards.reading.batch_assembler import Batch, BatchAssembler, BatchPlan, same_sized_runs
from quell.shards.reading.order import OrderBlock, SampleOrder
from quell.shards.reading.prefetch import Prefetcher
from quell.shards.reading.recipe import Recipe
from quell.shards.reading.shard_set import ShardSet
from quell.shards.reading.split import Split
from quell.shards.reading.verification import Verify

BLOCK_STEPS = 32
"""Steps whose order is computed at once."""
PLANNED_SAMPLES = 128
"""Samples that are located and whose geometry is drawn at once; a step of more is planned on its own."""


class BackgroundLoader:
    """What all loaders share: the thread that assembles, its time to wait for, and an end in every path."""

    _prefetcher: Prefetcher[list[Batch]] | Prefetcher[Batch]
    _assembler: BatchAssembler
    _pool: ThreadPoolExecutor | None

    @property
    def wait_s(self) -> float:
        """Seconds the consumer has waited for data so far."""
        return self._prefetcher.wait_s

    @property
    def is_ready(self) -> bool:
        """Whether the next item could be had without waiting."""
        return self._prefetcher.is_ready

    def close(self) -> None:
        """Stop the threads and drop the batches that are ready; safe to call twice."""
        with self._assembler.split.interrupted():
            self._prefetcher.close()
        if self._pool is not None:
            self._pool.shutdown()

    def __exit__(self, *_: object) -> None:
        self.close()


class Loader(BackgroundLoader):
    """The training batches of one rank: each step is a list of `order.accumulate` micro-batches.

    It opens at any step in the same short time. Use it as a context manager.

    Args:
        shards: The training split.
        order: Which samples each micro-batch holds; it may cover the first samples of the split only.
        recipe: What a batch holds (shapes: `shards.reading.recipe`).
        start_step: Step of the run that the first batches belong to.
        steps: Steps after which the iterator ends; None for never.
        prefetch: Steps assembled ahead of the consumer.
        verify: When checksums are compared, and NaN and Inf refused: at the first read of each member, at every
            read, or never.
        pin: Whether batches are in page-locked memory.
        threads: Threads that read; they fill whole batches at the same time, or share the images of one where these are
            decoded or fetched over a network. By default as many as this kind of data profits from.

    Raises:
        ConfigError: The recipe cannot be applied to these shards.
        DataError: The shards do not hold what the recipe needs. While iterating: a shard or sample is damaged; it is
            raised where the batch is requested, and names shard, sample and field.
    """

    def __init__(
        self,
        shards: ShardSet,
        order: SampleOrder,
        recipe: Recipe,
        *,
        start_step: int = 0,
        steps: int | None = None,
        prefetch: int = 2,
        verify: Verify = "first",
        pin: bool = False,
        threads: int | None = None,
    ) -> None:
        assert order.size <= len(shards)
        self._order, self._steps = order, steps
        self._pool = reading_pool(shards, threads)
        self._assembler = BatchAssembler(shards, recipe, seed=order.seed, verify=verify, pin=pin, pool=self._pool)
        at_once = 1 if self._pool is not None else threads or max(1, min(4, usable_cores() // 2))
        self._prefetcher: Prefetcher[list[Batch]] = Prefetcher(
            self._plans(start_step), prefetch, self._assemble, at_once
        )

    def __enter__(self) -> "Loader":
        return self

    def __iter__(self) -> Iterator[list[Batch]]:
        return iter(self._prefetcher)

    def _assemble(self, plans: list[BatchPlan]) -> list[Batch]:
        return [self._assembler.assemble(plan) for plan in plans]

    def _plans(self, start: int) -> Generator[list[BatchPlan], None, None]:
        """What the micro-batches of each step will hold."""
        assembler, accumulate = self._assembler, self._order.accumulate
        steps = max(1, PLANNED_SAMPLES // (accumulate * self._order.micro_batch))
        blocks = self._blocks(start)
        for block in self._announced(blocks) if assembler.split.needs_announcing else blocks:
            for first in range(0, len(block.epochs), steps):
                plans = self._plans_of(block, first, min(first + steps, len(block.epochs)))
                while step_plans := list(itertools.islice(plans, accumulate)):
                    yield step_plans

    def _plans_of(self, block: OrderBlock, begin: int, end: int) -> Iterator[BatchPlan]:
        """The plans of some steps; where a sample cannot be used, those of the steps before it come first."""
        try:
            yield from self._assembler.plans(*block.batches(begin, end))
        except DataError:
            for step in range(begin, end):
                yield from self._assembler.plans(*block.batches(step, step + 1))

    def _blocks(self, start: int) -> Iterator[OrderBlock]:
        """The order from step `start` on, as many steps at a time as are worth computing together."""
        for first in itertools.count(start, BLOCK_STEPS):
            left = BLOCK_STEPS if self._steps is None else min(BLOCK_STEPS, start + self._steps - first)
            if left <= 0:
                return
            yield self._order.block(first, left, self._assembler.streams)

    def _announced(self, blocks: Iterator[OrderBlock]) -> Iterator[OrderBlock]:
        """The same blocks; the samples of each are announced before the block in front of it is read."""
        waiting: list[OrderBlock] = []
        for block in blocks:
            in_reading_order = np.stack([block.samples, *block.unpaired.values()], axis=-1).ravel()
            self._assembler.split.expect(in_reading_order)
            yield from waiting
            waiting = [block]
        yield from waiting


class EvalLoader(BackgroundLoader):
    """Whole images for evaluation: no crop, no augmentation; neighbours of one size form a batch.

    Unpaired fields show the sample itself. Its length is the number of batches. Use it as a context manager.

    Args:
        shards: The split to evaluate on.
        samples: Numbers of the samples to show, int (n,), such as `samples_of_rank` returns.
        recipe: What a batch holds; its crop and augmentation are ignored.
        batch: Largest number of images in a batch.
        seed: Of the noise draws.
        prefetch: Batches assembled ahead of the consumer.
        verify: When checksums are compared, and NaN and Inf refused: at the first read of each member, at every
            read, or never.
        pin: Whether batches are in page-locked memory.
        threads: Images read and decoded at the same time; by default as many as this kind of data profits from.

    Raises:
        ConfigError: The recipe cannot be applied to these shards.
        DataError: As for `Loader`.
    """

    def __init__(
        self,
        shards: ShardSet,
        samples: np.ndarray,
        recipe: Recipe,
        batch: int,
        *,
        seed: int = 0,
        prefetch: int = 2,
        verify: Verify = "first",
        pin: bool = False,
        threads: int | None = None,
    ) -> None:
        whole = Recipe(
            recipe.fields,
            recipe.normals,
            normalise=recipe.normalise,
            resize=recipe.resize,
            draws=recipe.draws,
            representation=recipe.representation,
        )
        self._pool = reading_pool(shards, threads)
        self._assembler = BatchAssembler(
            shards, whole, seed=seed, verify=verify, pin=pin, random_geometry=False, pool=self._pool
        )
        self._runs = same_sized_runs(
            self._assembler.split, np.asarray(samples), self._assembler.fields[0].member, batch
        )
        self._prefetcher: Prefetcher[Batch] = Prefetcher(self._batches(), prefetch)

    def __len__(self) -> int:
        return len(self._runs)

    def __enter__(self) -> "EvalLoader":
        return self

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._prefetcher)

    def _batches(self) -> Generator[Batch, None, None]:
        assembler = self._assembler
        if assembler.split.needs_announcing:
            for run in self._runs:
                assembler.split.expect(run)
        for run in self._runs:
            yield assembler.batch(np.zeros(len(run), dtype=np.int64), run, dict.fromkeys(assembler.streams, run))


def reading_pool(split: Split, threads: int | None) -> ThreadPoolExecutor | None:
    """Threads that decode or fetch images of a batch at the same time; None for plain arrays on a disk."""
    is_encoded = any(encoding.codec in IMAGES for encoding in split.encodings)
    if not is_encoded and split.concurrent_reads == 1:
        return None
    default = max(min(4, usable_cores()) if is_encoded else 1, split.concurrent_reads)
    count = default if threads is None else threads
    return ThreadPoolExecutor(count, thread_name_prefix="quell-decode") if count > 1 else None


def usable_cores() -> int:
    """Cores for this process, if the ranks of a node share them evenly."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
