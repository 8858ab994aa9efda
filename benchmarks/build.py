"""How fast shards are written, index and checksums included, compared with webdataset's ShardWriter alone.

  python benchmarks/build.py [--pairs 300] [--rounds 5]

PD + PDFS float32 320 x 320 pairs in memory. Both writers run once per round, one after the other; the table has
medians, ranges and processor time.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import webdataset

from benchmarks.support import common
from benchmarks.support.pairs import random_pairs
from quell.shards.building.writer import write_split

Samples = list[dict[str, Any]]


def main() -> int:
    """Time both writers and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    samples = list(random_pairs(args.pairs))
    writers = {"webdataset.ShardWriter alone": write_with_webdataset, "ours, index and checksums": write_with_quell}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in writers}
    with tempfile.TemporaryDirectory(prefix="quell-bench-") as folder:
        for _ in range(args.rounds):
            for name, write in writers.items():
                times[name].append(time_writing(write, Path(folder) / "out", samples))
    print(f"{common.load_average()}\n\n| contender | pairs/s, median | range | CPU time per pair, us |")
    print("| --- | --- | --- | --- |")
    for name, measured in times.items():
        rates = [args.pairs / wall_s for wall_s, _ in measured]
        cpu_us = statistics.median(cpu_s for _, cpu_s in measured) / args.pairs * 1e6
        print(f"| {name} | {statistics.median(rates):,.0f} | {min(rates):,.0f} .. {max(rates):,.0f} | {cpu_us:,.0f} |")
    return 0


def time_writing(write: Callable[[Path, Samples], None], folder: Path, samples: Samples) -> tuple[float, float]:
    """Wall-clock and processor seconds of writing into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    os.sync()  # so that what earlier rounds left in the page cache is not written back during this one
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    write(folder, samples)
    return time.perf_counter() - start_s, time.process_time() - start_cpu_s


def write_with_webdataset(folder: Path, samples: Samples) -> None:
    """Write shards as webdataset's documentation does."""
    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "s-%06d.tar"), maxsize=64e6, verbose=0) as sink:
        for sample in samples:
            sink.write(sample)


def write_with_quell(folder: Path, samples: Samples) -> None:
    """Write the same samples as a split, with `shards.building.writer`."""
    write_split(folder, samples, name="s", meta={})


if __name__ == "__main__":
    sys.exit(main())
