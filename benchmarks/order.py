"""The order of samples on a large cluster, simulated with the code that training uses; and the cost of opening a split.

  python benchmarks/order.py [--epochs 100] [--ranks 1024] [--workers 8] [--samples 65537]

1. Every micro-batch of every rank over all epochs: is each sample seen once per epoch, and how evenly are samples
   spread over the ranks and their workers (worker w takes image w of each micro-batch)?
2. One of the ranks, on a split of 10,000,000 samples in 10,000 shards: how many shards does it read from, how many are
   open at once, and how often is one opened?
3. An index of ten million samples: its size, how much memory it takes, and the time to the first batch at 90 % of an
   epoch. Processor time is printed too, because other programs do not lengthen it. "Opening" is everything before the
   first image is read; the first batch costs as much as any batch whose checksums are compared for the first time.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import OrderedDict
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import psutil
import torch

from benchmarks.support import common
from benchmarks.support.pairs import repeat_in_index, write_pairs
from quell.configs.fields import Source
from quell.shards.format.shard_files import MAX_OPEN_FILES
from quell.shards.reading.loaders import Loader
from quell.shards.reading.order import SampleOrder
from quell.shards.reading.recipe import Recipe
from quell.shards.reading.shard_set import ShardSet

PAIRS, MANY, SHARDS = 160, 10_000_000, 10_000
SEED, BATCH, ROUNDS = 1337, 16, 9
RECIPE = Recipe({"pd": Source(), "pdfs": Source()})


def main() -> int:
    """Run the three parts and print their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--ranks", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=8, help="images of a rank's micro-batch")
    parser.add_argument("--samples", type=int, default=65_537)
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    check_exactness(args.samples, args.ranks, args.workers, args.epochs)
    measure_locality(args.ranks, args.workers)
    with tempfile.TemporaryDirectory(prefix="quell-order-") as folder:
        measure_opening(Path(folder))
    print(f"\n{time.perf_counter() - start:.0f} s; {common.load_average()}")
    return 0


def check_exactness(size: int, ranks: int, workers: int, epochs: int) -> None:
    """Count every sample of every epoch over all ranks."""
    batch = ranks * workers
    steps = SampleOrder(size, batch, SEED).steps(epochs)
    times_seen = np.zeros(size * (epochs + 1), dtype=np.uint8)
    per_worker = np.zeros((ranks, workers, epochs), dtype=np.int32)
    for rank in range(ranks):
        epoch, samples, _ = SampleOrder(size, batch, SEED, rank, ranks).block(0, steps)
        flat = (epoch * size + samples).reshape(-1, workers)
        np.add.at(times_seen, flat.ravel(), 1)
        for worker in range(workers):
            per_worker[rank, worker] = np.bincount(epoch.reshape(-1, workers)[:, worker], minlength=epochs)[:epochs]
    times_seen = times_seen[: size * epochs]  # the last step may reach into the next epoch
    per_rank = per_worker.sum(axis=1)
    print(f"{ranks} ranks x {workers} workers x {epochs} epochs of {size:,} samples, {steps:,} steps of {batch:,}:")
    print(f"  samples seen other than once in an epoch: {np.count_nonzero(times_seen != 1)} of {times_seen.size:,}")
    print(
        f"  samples of one epoch per worker {per_worker.min()} .. {per_worker.max()}, per rank {per_rank.min()} .. "
        f"{per_rank.max()}; over all epochs per rank {per_rank.sum(axis=1).min()} .. {per_rank.sum(axis=1).max()}"
    )
    print(f"  batches per rank: {steps:,} on each")


def measure_locality(ranks: int, workers: int) -> None:
    """Follow one rank for long enough that it has opened and closed many files."""
    order = SampleOrder(MANY, ranks * workers, SEED, ranks // 3, ranks)
    _, samples, _ = order.block(1000, 2000)
    shards = (samples.ravel() // (MANY // SHARDS)).tolist()
    open_shards: OrderedDict[int, None] = OrderedDict()  # least recently read first, as in shards/format/shard_files.py
    openings = most_open = 0
    for shard in shards:
        openings += shard not in open_shards
        open_shards[shard] = None
        open_shards.move_to_end(shard)
        if len(open_shards) > MAX_OPEN_FILES:
            open_shards.popitem(last=False)
        most_open = max(most_open, len(open_shards))
    print(
        f"\none of {ranks} ranks, {MANY:,} samples in {SHARDS:,} shards, {len(shards):,} reads: {len(set(shards)):,} "
        f"shards touched, at most {most_open} open at once, {openings / len(shards):.2f} openings per read"
    )


def measure_opening(work: Path) -> None:
    """Time to the first batch at 90 % of an epoch, with few samples and with ten million."""
    write_pairs(work / "few", PAIRS).files.close()
    index_bytes = repeat_in_index(work / "few", work / "many", MANY)
    print(f"\nindex of {MANY:,} samples: {index_bytes / 1e6:,.0f} MB on disk, mapped")
    print(
        "| at 90 % of an epoch | opening, ms | CPU ms | first batch, ms | CPU ms | later batch, ms | CPU ms |\n"
        "| --- | --- | --- | --- | --- | --- | --- |"
    )
    for name, samples in (("few", PAIRS), ("many", MANY)):
        rss_before = psutil.Process().memory_info().rss
        rows = np.array([time_opening(work / name) for _ in range(ROUNDS)]) * 1e3
        medians = [f"{statistics.median(column):.1f} (from {column.min():.1f})" for column in rows.T]
        print(f"| {samples:,} samples | " + " | ".join(medians) + " |")
        growth = psutil.Process().memory_info().rss - rss_before
    print(f"growth of memory over {ROUNDS} openings of {MANY:,} samples: {growth / 1e6:.1f} MB, batches included")


def time_opening(path: Path) -> list[float]:
    """Wall-clock and processor seconds of everything before the first read, of the first batch and of the next one."""
    marks = [(time.perf_counter(), time.process_time())]
    shards = ShardSet.open(path)
    order = SampleOrder(len(shards), BATCH, SEED)
    start_step = int(0.9 * order.steps(1))
    order.block(start_step, 32)  # computed by the loader's thread before it reads
    marks.append((time.perf_counter(), time.process_time()))
    with Loader(shards, order, RECIPE, start_step=start_step, steps=2, prefetch=1) as loader:
        for _ in loader:
            marks.append((time.perf_counter(), time.process_time()))
    shards.files.close()
    return np.diff(marks, axis=0).ravel().tolist()


if __name__ == "__main__":
    sys.exit(main())
