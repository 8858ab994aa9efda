"""How fast batches arrive, compared with the operating system's limit and with webdataset, all in one run.

  python benchmarks/loader.py [--seconds 1] [--rounds 5] [--litdata PYTHON] [--json FILE]

PD + PDFS float32 320 x 320 pairs and 256 x 256 RGB pairs (PNG, JPEG, arrays) from plain tars in the page cache, one
process. Every contender runs once per round, so that other load on the machine affects all of them alike; the table has
medians and ranges over the rounds. `--litdata PYTHON` adds litdata to the run, from an interpreter that has it: its
dependencies are incompatible with ours.
"""

import argparse
import io
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import torch
import webdataset
from PIL import Image

from benchmarks.support import common
from benchmarks.support.pairs import SIDE_PX, repeat_in_index, write_pairs
from quell.configs.fields import Source
from quell.launch.data.finishing import Finisher
from quell.shards.building.writer import write_split
from quell.shards.reading.loaders import Loader
from quell.shards.reading.order import SampleOrder
from quell.shards.reading.recipe import Recipe
from quell.shards.reading.shard_set import ShardSet

BATCH = 16
PAIRS, PHOTOS, MANY = 400, 160, 10_000_000
FIELDS = {"pd": Source(), "pdfs": Source()}
FULL = Recipe(FIELDS, {"pd_normal": "pd", "pdfs_normal": "pdfs"}, crop=256, flip=True, phase=True, normalise="median")
CROPPED, FINISHED = "float: ours, crop and flip", "float: ours, crop flip phase median noise, all on this CPU"
LIMIT = "float: limit, preadv at known offsets into the batch"
STOCK = "float: stock webdataset .decode()"
STOCK_PNG = "RGB: stock webdataset .decode('rgb8') from PNG"
STOCK_JPG = "RGB: stock webdataset .decode('rgb8') from JPEG"
LITDATA = """
import os, sys, time, numpy as np, torch
torch.set_num_threads(1)  # as here: with more, its collation would wait for threads on a busy machine
os.environ["LITDATA_BATCH_ROWS"] = "1"  # else a window of neighbours is decoded for each shuffled sample
from litdata import StreamingDataset, StreamingDataLoader
loader = StreamingDataLoader(StreamingDataset(sys.argv[1], shuffle=True), batch_size=16, num_workers=0)
seconds, seen, passed, cpu = float(sys.argv[2]), 0, 0.0, 0.0
for batch in loader: pass
while passed < seconds:
    began = None
    for batch in loader:  # timed from the first batch of an epoch on, so that starting the epoch is not counted
        if began is None: began, began_cpu = time.perf_counter(), time.process_time()
        else: seen += len(batch["pd"])
    passed += time.perf_counter() - began
    cpu += time.process_time() - began_cpu
print(seen / passed, cpu / seen * 1e6)
"""
LITDATA_WRITE = """
import sys, numpy as np
from litdata import optimize
def pair(seed):
    random = np.random.default_rng(seed)
    return {name: random.random((320, 320), dtype=np.float32) for name in ("pd", "pdfs")}
if __name__ == "__main__":
    optimize(pair, list(range(int(sys.argv[2]))), sys.argv[1], chunk_bytes="64MB", num_workers=1)
"""


class Throughput(NamedTuple):
    """One measurement of one contender."""

    pairs_per_s: float
    cpu_us: float
    """Processor time per pair, summed over threads."""


Run = Callable[[float], Throughput]
"""Measures a contender for about this many seconds."""


def main() -> int:
    """Run all contenders round by round, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--litdata", metavar="PYTHON", help="Python interpreter that has litdata")
    parser.add_argument("--json", help="file to write the numbers to as well")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="quell-bench-") as folder:
        work = Path(folder)
        contenders = {**array_contenders(work, args.litdata), **photo_contenders(work)}
        throughputs: dict[str, list[Throughput]] = {name: [] for name in contenders}
        for run in contenders.values():
            run(0.2)  # warm up
        for _ in range(args.rounds):
            for name, run in contenders.items():
                throughputs[name].append(run(args.seconds))
        opening = measure_opening(work)
    print_results(throughputs, opening)
    if args.json:
        Path(args.json).write_text(
            json.dumps({"pairs_per_s": throughputs, "opening": opening}, indent=1) + "\n", encoding="utf-8"
        )
    return 0


def array_contenders(work: Path, litdata: str | None) -> dict[str, Run]:
    """Contenders on float32 pairs; litdata's only where its interpreter is known."""
    shards = write_pairs(work / "pairs", PAIRS)
    contenders: dict[str, Run] = {
        LIMIT: lambda seconds: throughput(read_at_limit(shards), seconds),
        "float: ours, checksums compared once": lambda seconds: run_ours(shards, Recipe(FIELDS), seconds),
        "float: ours, checksums at every read": lambda seconds: run_ours(
            shards, Recipe(FIELDS), seconds, verify="always"
        ),
        CROPPED: lambda seconds: run_ours(shards, FULL, seconds),
        FINISHED: lambda seconds: run_ours(shards, FULL, seconds, finish=Finisher(FULL, shards)),
        STOCK: lambda seconds: throughput(read_with_webdataset(work / "pairs", "npy", None), seconds),
    }
    if litdata:
        for name, script in (("write", LITDATA_WRITE), ("read", LITDATA)):  # its worker processes need a file to import
            (work / f"lit_{name}.py").write_text(script)
        command = [litdata, str(work / "lit_write.py"), str(work / "lit"), str(PAIRS)]
        subprocess.run(command, check=True, capture_output=True)
        contenders["float: litdata, its own format"] = lambda seconds: run_litdata(litdata, work / "lit", seconds)
    return contenders


def photo_contenders(work: Path) -> dict[str, Run]:
    """Contenders on PNG and JPEG pairs, and on the same images stored as arrays."""

    def sample(i: int, kind: str) -> dict[str, Any]:
        random = np.random.default_rng(i)
        members: dict[str, Any] = {}
        for name in FIELDS:
            coarse = Image.fromarray(random.integers(0, 255, (32, 32, 3), np.uint8)).resize((256, 256))
            image = np.asarray(coarse) // 2 + random.integers(0, 40, (256, 256, 3), np.uint8)
            file = io.BytesIO()
            if kind != "npy":
                Image.fromarray(image).save(file, {"png": "png", "jpg": "jpeg"}[kind], quality=95)
            members[f"{name}.{kind}"] = image if kind == "npy" else file.getvalue()
        return {"__key__": f"k{i:05d}", **members}

    shards = {}
    for kind in ("png", "jpg", "npy"):
        write_split(work / kind, (sample(i, kind) for i in range(PHOTOS)), name=kind, meta={})
        shards[kind] = ShardSet.open(work / kind)
    return {
        "RGB: ours from PNG": lambda seconds: run_ours(shards["png"], Recipe(FIELDS), seconds),
        STOCK_PNG: lambda seconds: throughput(read_with_webdataset(work / "png", "png", "rgb8"), seconds),
        "RGB: ours from JPEG": lambda seconds: run_ours(shards["jpg"], Recipe(FIELDS), seconds),
        STOCK_JPG: lambda seconds: throughput(read_with_webdataset(work / "jpg", "jpg", "rgb8"), seconds),
        "RGB: ours from uint8 arrays": lambda seconds: run_ours(shards["npy"], Recipe(FIELDS), seconds),
    }


def measure_opening(work: Path) -> dict[str, float]:
    """Milliseconds to the first batch at 90 % of an epoch, of this split and of one of ten million samples."""
    results = {"first batch at 90 % of 400 samples, ms": first_batch_ms(work / "pairs")}
    index_bytes = repeat_in_index(work / "pairs", work / "many", MANY)
    results["first batch at 90 % of 10,000,000 samples, ms"] = first_batch_ms(work / "many")
    results["index of 10,000,000 samples, MB on disk, mapped"] = index_bytes / 1e6
    return results


def first_batch_ms(path: Path) -> float:
    """Median time from opening a split to the first batch at 90 % of an epoch."""
    times = []
    for _ in range(7):
        start = time.perf_counter()
        shards = ShardSet.open(path)
        order = SampleOrder(len(shards), BATCH, 1)
        with Loader(shards, order, Recipe(FIELDS), start_step=int(0.9 * order.steps(1)), steps=1) as loader:
            next(iter(loader))
            times.append((time.perf_counter() - start) * 1e3)
        shards.files.close()
    return statistics.median(times)


def throughput(batches: Iterator[int], seconds: float) -> Throughput:
    """Measure an endless iterator of batch sizes, after one batch to warm up."""
    next(batches)
    start, start_cpu, pairs = time.perf_counter(), time.process_time(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        pairs += next(batches)
    return Throughput(pairs / elapsed, (time.process_time() - start_cpu) / pairs * 1e6)


def run_ours(
    shards: ShardSet,
    recipe: Recipe,
    seconds: float,
    *,
    verify: Literal["always", "first"] = "first",
    finish: Finisher | None = None,
) -> Throughput:
    """Measure the launcher's loader; with checksums compared once, that is after the first epoch, which does it.

    Phase, median and noise are the device's part (launch/data/finishing.py): with `finish` this CPU is the device.
    """
    order = SampleOrder(len(shards), BATCH, 1)
    with Loader(shards, order, recipe, verify=verify) as loader:
        iterator = iter(loader)
        for _ in range(order.steps(1) if verify == "first" else 1):
            next(iterator)
        batches = (batch if finish is None else finish(batch) for (batch,) in iterator)
        return throughput((len(batch["index"]) for batch in batches), seconds)


def read_at_limit(shards: ShardSet) -> Iterator[int]:
    """The fastest that the operating system allows: one preadv per image, at known offsets, straight into the batch."""
    members = {name: shards.locate(np.arange(len(shards)), name) for name in FIELDS}
    descriptors = [os.open(path, os.O_RDONLY) for path in shards.files.paths]
    order = SampleOrder(len(shards), BATCH, 1)
    steps = [order.samples(step, 0)[1].tolist() for step in range(order.steps(1))]
    # four batches, as many as are alive in training: two prefetched, one being filled and one being trained on
    views = [
        {
            name: [image.reshape(-1).view(np.uint8).data for image in np.zeros((BATCH, SIDE_PX, SIDE_PX), np.float32)]
            for name in FIELDS
        }
        for _ in range(4)
    ]
    try:
        for number in itertools.count():
            samples, batch = steps[number % len(steps)], views[number % len(views)]
            for name in FIELDS:
                for view, sample in zip(batch[name], samples, strict=True):
                    member = members[name][sample]
                    os.preadv(descriptors[member.shard], [view], member.offset + member.start)
            yield BATCH
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def read_with_webdataset(folder: Path, extension: str, image_format: str | None) -> Iterator[int]:
    """Read the same shards as webdataset's documentation does."""
    urls = sorted(str(path) for path in folder.glob("*.tar"))
    while True:
        data = webdataset.WebDataset(urls, shardshuffle=len(urls)).shuffle(64)
        data = data.decode(image_format) if image_format else data.decode()
        data = data.to_tuple(f"pd.{extension}", f"pdfs.{extension}").batched(BATCH)
        for pd, _pdfs in data:
            yield len(pd)


def run_litdata(python: str, folder: Path, seconds: float) -> Throughput:
    """Measure litdata, in a process of its interpreter."""
    command = [python, str(folder.with_name("lit_read.py")), str(folder), str(seconds)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    pairs_per_s, cpu_us = output.split()[-2:]
    return Throughput(float(pairs_per_s), float(cpu_us))


def by_pairs_per_s(result: Throughput) -> float:
    """Speed by the clock."""
    return result.pairs_per_s


def by_cpu_time(result: Throughput) -> float:
    """Speed by processor time."""
    return 1 / result.cpu_us


def print_results(throughputs: dict[str, list[Throughput]], opening: dict[str, float]) -> None:
    """Print the table, the ratios that the documentation reports, and the times to the first batch."""
    decoder = "imagecodecs" if find_spec("imagecodecs") else "Pillow"
    print(f"{common.load_average()}; batch {BATCH}; ours decodes by {decoder}\n")
    print("| contender | pairs/s, median | range | CPU time per pair, us |\n| --- | --- | --- | --- |")
    for name, results in throughputs.items():
        rates = [result.pairs_per_s for result in results]
        cpu_us = statistics.median(result.cpu_us for result in results)
        print(f"| {name} | {statistics.median(rates):,.0f} | {min(rates):,.0f} .. {max(rates):,.0f} | {cpu_us:,.0f} |")
    ours, png, jpg = "float: ours, checksums compared once", "RGB: ours from PNG", "RGB: ours from JPEG"
    for quantity, speed in (("pairs/s", by_pairs_per_s), ("CPU time", by_cpu_time)):

        def ratio(fast: str, slow: str, speed: Callable[[Throughput], float] = speed) -> float:
            """Median over rounds of the ratio within a round, which other load on the machine cancels out of."""
            pairs = zip(throughputs[fast], throughputs[slow], strict=True)
            return statistics.median(speed(a) / speed(b) for a, b in pairs)

        print(
            f"\nby {quantity}: limit / ours {ratio(LIMIT, ours):.2f}; ours / stock {ratio(ours, STOCK):.2f}; "
            f"from PNG ours / stock {ratio(png, STOCK_PNG):.2f}; from JPEG {ratio(jpg, STOCK_JPG):.2f}"
        )
    for name, value in opening.items():
        print(f"{name}: {value:,.1f}")


if __name__ == "__main__":
    sys.exit(main())
