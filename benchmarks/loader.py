"""How fast batches arrive, beside the physical limit and stock webdataset, all in one run.

  python benchmarks/loader.py [--seconds 1] [--rounds 5] [--litdata PYTHON] [--json FILE]

PD + PDFS float32 320 x 320 pairs and 256 x 256 RGB pairs (PNG, JPEG, arrays) from plain tars in the page cache, one
process. Every contender runs once per round, in turn, so that a busy machine is busy for all; medians and ranges over
the rounds are printed with the machine's load. `--litdata PYTHON` names an interpreter that has litdata (its packages
do not go with ours) and adds it to the run.
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
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
import webdataset
from PIL import Image

from configs.fields import Source
from shards.building.writer import write_split
from shards.format import index
from shards.reading.loaders import Loader
from shards.reading.order import SampleOrder
from shards.reading.recipe import Recipe
from shards.reading.shard_set import ShardSet

BATCH = 16
PAIRS, PHOTOS = 400, 160
FIELDS = {"pd": Source(), "pdfs": Source()}
FULL = Recipe(FIELDS, {"pd_normal": "pd", "pdfs_normal": "pdfs"}, crop=256, flip=True, phase=True, normalise="median")
LIMIT = "float: limit, preadv at known offsets into the batch"
STOCK = "float: stock webdataset .decode()"
STOCK_PNG = "RGB: stock webdataset .decode('rgb8') from PNG"
STOCK_JPG = "RGB: stock webdataset .decode('rgb8') from JPEG"
LITDATA = """
import os, sys, time, numpy as np, torch
torch.set_num_threads(1)  # as here: its collation waits for threads that a busy machine does not give
os.environ["LITDATA_BATCH_ROWS"] = "1"  # else a window of neighbours is decoded for each shuffled sample
from litdata import StreamingDataset, StreamingDataLoader
loader = StreamingDataLoader(StreamingDataset(sys.argv[1], shuffle=True), batch_size=16, num_workers=0)
seconds, seen, passed, cpu = float(sys.argv[2]), 0, 0.0, 0.0
for batch in loader: pass
while passed < seconds:
    began = None
    for batch in loader:  # from the first batch of an epoch on: its start is not what is measured
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


class Measured(NamedTuple):
    """One measurement of one contender."""

    pairs_per_s: float
    cpu_us: float
    """Processor time of one pair, over all threads."""


def main() -> int:
    """Run every contender in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--litdata", metavar="PYTHON", help="interpreter that has litdata")
    parser.add_argument("--json", help="also write the numbers here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="quell-bench-") as folder:
        work = Path(folder)
        contenders = {**arrays(work, args), **photos(work)}
        measured: dict[str, list[Measured]] = {name: [] for name in contenders}
        for run in contenders.values():
            run(0.2)
        for _ in range(args.rounds):
            for name, run in contenders.items():
                measured[name].append(run(args.seconds))
        opened = opening(work)
    _print(measured, opened)
    if args.json:
        Path(args.json).write_text(json.dumps({"pairs_per_s": measured, "opening": opened}, indent=1) + "\n")
    return 0


def arrays(work: Path, args: argparse.Namespace) -> dict[str, Callable[[float], Measured]]:
    """Contenders on float32 pairs."""
    random = np.random.default_rng(0)
    write_split(
        work / "pairs",
        (
            {"__key__": f"k{i:05d}", **{f"{name}.npy": random.random((320, 320), dtype=np.float32) for name in FIELDS}}
            for i in range(PAIRS)
        ),
        name="pairs",
        meta={},
    )
    shards = ShardSet.open(work / "pairs")
    found: dict[str, Callable[[float], Measured]] = {
        LIMIT: lambda seconds: _rate(_limit(shards), seconds),
        "float: ours, checksums compared once": lambda seconds: _ours(shards, Recipe(FIELDS), seconds),
        "float: ours, checksums at every read": lambda seconds: _ours(shards, Recipe(FIELDS), seconds, verify="always"),
        "float: ours, crop flip phase median noise": lambda seconds: _ours(shards, FULL, seconds),
        STOCK: lambda seconds: _rate(_stock(work / "pairs", "npy", None), seconds),
    }
    if args.litdata:
        for name, script in (("write", LITDATA_WRITE), ("read", LITDATA)):  # it starts workers, which need a file
            (work / f"lit_{name}.py").write_text(script)
        subprocess.run(
            [args.litdata, str(work / "lit_write.py"), str(work / "lit"), str(PAIRS)], check=True, capture_output=True
        )
        found["float: litdata, its own format"] = lambda seconds: _litdata(args.litdata, work / "lit", seconds)
    return found


def photos(work: Path) -> dict[str, Callable[[float], Measured]]:
    """Contenders on PNG and JPEG pairs, and the same images stored as arrays."""

    def sample(i: int, kind: str) -> dict[str, Any]:
        random = np.random.default_rng(i)
        parts: dict[str, Any] = {}
        for name in FIELDS:
            coarse = Image.fromarray(random.integers(0, 255, (32, 32, 3), np.uint8)).resize((256, 256))
            image = np.asarray(coarse) // 2 + random.integers(0, 40, (256, 256, 3), np.uint8)
            file = io.BytesIO()
            if kind != "npy":
                Image.fromarray(image).save(file, {"png": "png", "jpg": "jpeg"}[kind], quality=95)
            parts[f"{name}.{kind}"] = image if kind == "npy" else file.getvalue()
        return {"__key__": f"k{i:05d}", **parts}

    shards = {}
    for kind in ("png", "jpg", "npy"):
        write_split(work / kind, (sample(i, kind) for i in range(PHOTOS)), name=kind, meta={})
        shards[kind] = ShardSet.open(work / kind)
    return {
        "RGB: ours from PNG": lambda seconds: _ours(shards["png"], Recipe(FIELDS), seconds),
        STOCK_PNG: lambda seconds: _rate(_stock(work / "png", "png", "rgb8"), seconds),
        "RGB: ours from JPEG": lambda seconds: _ours(shards["jpg"], Recipe(FIELDS), seconds),
        STOCK_JPG: lambda seconds: _rate(_stock(work / "jpg", "jpg", "rgb8"), seconds),
        "RGB: ours from uint8 arrays": lambda seconds: _ours(shards["npy"], Recipe(FIELDS), seconds),
    }


def opening(work: Path) -> dict[str, float]:
    """Milliseconds to the first batch at 90 % of an epoch, here and with a synthetic index of ten million samples."""
    found = {"first batch at 90 % of 400 samples, ms": _first_batch_ms(work / "pairs")}
    shards = ShardSet.open(work / "pairs")
    many = work / "many"
    many.mkdir()
    for shard in shards.files.paths:
        os.link(shard, many / shard.name)
    header: index.IndexHeader = json.loads((work / "pairs" / index.HEADER).read_text())
    table = np.tile(np.load(work / "pairs" / index.TABLE), 10_000_000 // PAIRS)
    for field in header["fields"].values():
        field["count"] = len(table)
    index.write_files(many, {**header, "samples": len(table)}, table)
    megabytes = table.nbytes / 1e6
    del table
    found["first batch at 90 % of 10,000,000 samples, ms"] = _first_batch_ms(many)
    found["index of 10,000,000 samples, MB on disk, mapped"] = megabytes
    return found


def _first_batch_ms(path: Path) -> float:
    times = []
    for _ in range(7):
        began = time.perf_counter()
        shards = ShardSet.open(path)
        plan = SampleOrder(len(shards), BATCH, 1)
        with Loader(shards, plan, Recipe(FIELDS), start_step=int(0.9 * plan.steps(1)), steps=1) as loader:
            next(iter(loader))
            times.append((time.perf_counter() - began) * 1e3)
        shards.files.close()
    return statistics.median(times)


def _rate(batches: Iterator[int], seconds: float) -> Measured:
    """Measure an endless iterator of batch sizes, after one batch to warm up."""
    next(batches)
    began, cpu, seen = time.perf_counter(), time.process_time(), 0
    while (passed := time.perf_counter() - began) < seconds:
        seen += next(batches)
    return Measured(seen / passed, (time.process_time() - cpu) / seen * 1e6)


def _ours(shards: ShardSet, recipe: Recipe, seconds: float, **settings: Any) -> Measured:
    plan = SampleOrder(len(shards), BATCH, 1)
    with Loader(shards, plan, recipe, **settings) as loader:
        iterator = iter(loader)
        for _ in range(plan.steps(1) if settings.get("verify") is None else 1):
            next(iterator)  # the first epoch compares checksums
        return _rate((len(step[0]["index"]) for step in iterator), seconds)


def _limit(shards: ShardSet) -> Iterator[int]:
    """What the operating system can do: one preadv per image, at offsets known beforehand, into the batch."""
    rows = {name: shards.locate(np.arange(len(shards)), name) for name in FIELDS}
    descriptors = [os.open(path, os.O_RDONLY) for path in shards.files.paths]
    plan = SampleOrder(len(shards), BATCH, 1)
    order = [plan.samples(step, 0)[1].tolist() for step in range(plan.steps(1))]
    # Four batches in turn, as many as are alive when two are made ahead, one is filled and one is learned from.
    views = [
        {
            name: [image.reshape(-1).view(np.uint8).data for image in np.zeros((BATCH, 320, 320), np.float32)]
            for name in FIELDS
        }
        for _ in range(4)
    ]
    try:
        for turn in itertools.count():
            samples, batch = order[turn % len(order)], views[turn % len(views)]
            for name in FIELDS:
                for view, sample in zip(batch[name], samples, strict=True):
                    member = rows[name][sample]
                    os.preadv(descriptors[member.shard], [view], member.offset + member.start)
            yield BATCH
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _stock(folder: Path, extension: str, images: str | None) -> Iterator[int]:
    urls = sorted(str(path) for path in folder.glob("*.tar"))
    while True:
        data = webdataset.WebDataset(urls, shardshuffle=len(urls)).shuffle(64)
        data = data.decode(images) if images else data.decode()
        data = data.to_tuple(f"pd.{extension}", f"pdfs.{extension}").batched(BATCH)
        for first, _second in data:
            yield len(first)


def _litdata(python: str, folder: Path, seconds: float) -> Measured:
    command = [python, str(folder.with_name("lit_read.py")), str(folder), str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rate, cpu_us = done.stdout.split()[-2:]
    return Measured(float(rate), float(cpu_us))


def _print(table: dict[str, list[Measured]], opened: dict[str, float]) -> None:
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    decoder = "imagecodecs" if find_spec("imagecodecs") else "Pillow"
    print(f"load {load} on {os.cpu_count()} cores; batch {BATCH}; ours decodes by {decoder}\n")
    print("| contender | pairs/s, median | range | CPU us per pair |\n| --- | --- | --- | --- |")
    rates, cpu = {}, {}
    for name, found in table.items():
        each = [one.pairs_per_s for one in found]
        rates[name], cpu[name] = statistics.median(each), statistics.median(one.cpu_us for one in found)
        print(f"| {name} | {rates[name]:,.0f} | {min(each):,.0f} .. {max(each):,.0f} | {cpu[name]:,.0f} |")
    ours, png, jpg = "float: ours, checksums compared once", "RGB: ours from PNG", "RGB: ours from JPEG"
    for what, number in (("pairs/s", rates), ("CPU time", {name: 1 / value for name, value in cpu.items()})):
        print(
            f"\nby {what}: limit / ours {number[LIMIT] / number[ours]:.2f}; ours / stock "
            f"{number[ours] / number[STOCK]:.2f}; from PNG ours / stock {number[png] / number[STOCK_PNG]:.2f}; from "
            f"JPEG {number[jpg] / number[STOCK_JPG]:.2f}"
        )
    for name, value in opened.items():
        print(f"{name}: {value:,.1f}")


if __name__ == "__main__":
    sys.exit(main())
