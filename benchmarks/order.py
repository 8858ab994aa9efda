"""The order at the size of a cluster, simulated with the code that training uses, and what opening costs.

  python benchmarks/order.py [--epochs 100] [--ranks 1024] [--workers 8] [--samples 65537]

1. Every micro-batch of every rank over all epochs: is each sample there once per epoch, and how level are the ranks and
   their workers (worker w takes image w of each micro-batch)?
2. One rank among as many on a split of 10,000,000 samples in 10,000 shards: how many shards does it touch, how many are
   open at once, how often is one opened again?
3. An index of ten million samples: its size, what of it is in memory, and the time to the first batch at 90 % of an
   epoch. Processor time is printed too, which other programs do not stretch. "Opening" is everything before the first
   image is read; the first batch costs what any batch does whose checksums are compared for the first time.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import OrderedDict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import psutil
import torch

from configs.fields import Source
from shards.building.writer import write_split
from shards.format import index
from shards.format.shard_files import MAX_OPEN_FILES
from shards.reading.loaders import Loader
from shards.reading.order import SampleOrder
from shards.reading.recipe import Recipe
from shards.reading.shard_set import ShardSet

PAIRS, MANY, SHARDS = 160, 10_000_000, 10_000
SEED, BATCH, ROUNDS = 1337, 16, 9
RECIPE = Recipe({"pd": Source(), "pdfs": Source()})


def main() -> int:
    """Run the three parts and print what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--ranks", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=8, help="images of a rank's micro-batch")
    parser.add_argument("--samples", type=int, default=65_537)
    args = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    exactness(args.samples, args.ranks, args.workers, args.epochs)
    locality(args.ranks, args.workers)
    with tempfile.TemporaryDirectory(prefix="quell-order-") as folder:
        opening(Path(folder))
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"\n{time.perf_counter() - began:.0f} s; load {load} on {os.cpu_count()} cores")
    return 0


def exactness(size: int, ranks: int, workers: int, epochs: int) -> None:
    """Count every sample of every epoch over all ranks."""
    batch = ranks * workers
    steps = SampleOrder(size, batch, SEED).steps(epochs)
    times = np.zeros(size * (epochs + 1), dtype=np.uint8)
    per_worker = np.zeros((ranks, workers, epochs), dtype=np.int32)
    for rank in range(ranks):
        epoch, samples, _ = SampleOrder(size, batch, SEED, rank, ranks).block(0, steps)
        flat = (epoch * size + samples).reshape(-1, workers)
        np.add.at(times, flat.ravel(), 1)
        for worker in range(workers):
            per_worker[rank, worker] = np.bincount(epoch.reshape(-1, workers)[:, worker], minlength=epochs)[:epochs]
    whole = times[: size * epochs]
    per_rank = per_worker.sum(axis=1)
    print(f"{ranks} ranks x {workers} workers x {epochs} epochs of {size:,} samples, {steps:,} steps of {batch:,}:")
    print(f"  samples seen other than once in an epoch: {np.count_nonzero(whole != 1)} of {whole.size:,}")
    print(
        f"  samples of one epoch per worker {per_worker.min()} .. {per_worker.max()}, per rank {per_rank.min()} .. "
        f"{per_rank.max()}; over all epochs per rank {per_rank.sum(axis=1).min()} .. {per_rank.sum(axis=1).max()}"
    )
    print(f"  batches per rank: {steps:,} on each")


def locality(ranks: int, workers: int) -> None:
    """Follow one rank for as many reads as fill its open files many times."""
    plan = SampleOrder(MANY, ranks * workers, SEED, ranks // 3, ranks)
    _, samples, _ = plan.block(1000, 2000)
    shards = (samples.ravel() // (MANY // SHARDS)).tolist()
    held: OrderedDict[int, None] = OrderedDict()
    opened = most = 0
    for shard in shards:
        opened += shard not in held
        held[shard] = None
        held.move_to_end(shard)
        if len(held) > MAX_OPEN_FILES:
            held.popitem(last=False)
        most = max(most, len(held))
    print(
        f"\none of {ranks} ranks, {MANY:,} samples in {SHARDS:,} shards, {len(shards):,} reads: {len(set(shards)):,} "
        f"shards touched, at most {most} open at once, {opened / len(shards):.2f} openings per read"
    )


def opening(work: Path) -> None:
    """Time to the first batch at 90 % of an epoch, with few samples and with ten million."""
    random = np.random.default_rng(0)
    write_split(
        work / "few",
        (
            {
                "__key__": f"k{i:05d}",
                **{f"{name}.npy": random.random((320, 320), dtype=np.float32) for name in RECIPE.fields},
            }
            for i in range(PAIRS)
        ),
        name="few",
        meta={},
    )
    bytes_ = synthetic(work / "few", work / "many", MANY)
    print(f"\nindex of {MANY:,} samples: {bytes_ / 1e6:,.0f} MB on disk, mapped")
    print(
        "| at 90 % of an epoch | opening, ms | CPU ms | first batch, ms | CPU ms | later batch, ms | CPU ms |\n"
        "| --- | --- | --- | --- | --- | --- | --- |"
    )
    for name, samples in (("few", PAIRS), ("many", MANY)):
        before = psutil.Process().memory_info().rss
        rows = np.array([measured(work / name) for _ in range(ROUNDS)]) * 1e3
        middle = [f"{statistics.median(column):.1f} (from {column.min():.1f})" for column in rows.T]
        print(f"| {samples:,} samples | " + " | ".join(middle) + " |")
        grown = psutil.Process().memory_info().rss - before
    print(f"memory grown over {ROUNDS} openings of {MANY:,} samples: {grown / 1e6:.1f} MB, batches included")


def measured(path: Path) -> list[float]:
    """Seconds, by the clock and of the processor, of: everything before the first read; the first batch; the next."""
    marks = [(time.perf_counter(), time.process_time())]
    shards = ShardSet.open(path)
    plan = SampleOrder(len(shards), BATCH, SEED)
    start = int(0.9 * plan.steps(1))
    plan.block(start, 32)  # what the loader's thread begins with
    marks.append((time.perf_counter(), time.process_time()))
    with Loader(shards, plan, RECIPE, start_step=start, steps=2, prefetch=1) as loader:
        for _ in loader:
            marks.append((time.perf_counter(), time.process_time()))
    shards.files.close()
    return np.diff(marks, axis=0).ravel().tolist()


def synthetic(source: Path, target: Path, samples: int) -> int:
    """The same shards under an index that repeats their samples; returns the table's bytes."""
    target.mkdir()
    for shard in source.glob("*.tar"):
        os.link(shard, target / shard.name)
    header: index.IndexHeader = json.loads((source / index.HEADER).read_text())
    table = np.tile(np.load(source / index.TABLE), samples // header["samples"])
    for field in header["fields"].values():
        field["count"] = len(table)
    index.write_files(target, {**header, "samples": len(table)}, table)
    return table.nbytes


if __name__ == "__main__":
    sys.exit(main())
