"""How fast shards are written, index and checksums included, beside webdataset's ShardWriter alone.

  python benchmarks/build.py [--pairs 300] [--rounds 5]

PD + PDFS float32 320 x 320 pairs in memory; each contender once per round, in turn; medians, ranges, processor time.
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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import webdataset

from shards.building.writer import write_split


def main() -> int:
    """Run both contenders in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    random = np.random.default_rng(0)
    samples = [
        {
            "__key__": f"k{i:05d}",
            "json": {"i": i},
            **{f"{name}.npy": random.random((320, 320), dtype=np.float32) for name in ("pd", "pdfs")},
        }
        for i in range(args.pairs)
    ]
    found: dict[str, list[tuple[float, float]]] = {"webdataset.ShardWriter alone": [], "ours, index and checksums": []}
    with tempfile.TemporaryDirectory(prefix="quell-bench-") as folder:
        for _ in range(args.rounds):
            for name, write in zip(found, (stock, ours), strict=True):
                found[name].append(timed(write, Path(folder) / "out", samples))
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"load {load} on {os.cpu_count()} cores\n\n| contender | pairs/s, median | range | CPU us per pair |")
    print("| --- | --- | --- | --- |")
    for name, times in found.items():
        rates = [args.pairs / wall for wall, _ in times]
        cpu = statistics.median(cpu for _, cpu in times) / args.pairs * 1e6
        print(f"| {name} | {statistics.median(rates):,.0f} | {min(rates):,.0f} .. {max(rates):,.0f} | {cpu:,.0f} |")
    return 0


def timed(
    write: Callable[[Path, list[dict[str, Any]]], None], folder: Path, samples: list[dict[str, Any]]
) -> tuple[float, float]:
    """Wall and processor seconds of writing into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    os.sync()
    began, cpu = time.perf_counter(), time.process_time()
    write(folder, samples)
    return time.perf_counter() - began, time.process_time() - cpu


def stock(folder: Path, samples: list[dict[str, Any]]) -> None:
    """As webdataset's documentation writes shards."""
    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "s-%06d.tar"), maxsize=64e6, verbose=0) as sink:
        for sample in samples:
            sink.write(sample)


def ours(folder: Path, samples: list[dict[str, Any]]) -> None:
    """The same through shards.writer."""
    write_split(folder, samples, name="s", meta={})


if __name__ == "__main__":
    sys.exit(main())
