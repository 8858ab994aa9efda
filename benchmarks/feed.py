"""What one CPU core feeds each configuration, stage by stage, beside what devices would eat.

  python benchmarks/feed.py [--quick] [--configs NAME ...]

Synthetic shards in the page cache, of the types and sizes of the data that the configurations are for. CPU time of one
thread per sample, medians of several rounds. "First epoch" is the same loader while checksums are compared. The device
part (phase, normalisation, noise: launch/data/finishing.py) is what this core would need for it.

The appetite is arithmetic, not a measurement (docs/scaling.md): a device reaches 30 % of its peak, TF32 or bf16, at
batches so large that launching kernels costs nothing. Configurations that read alike share a row.
"""

import argparse
import itertools
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import torch

from benchmarks import scaling_model
from benchmarks.support import common
from quell.configs import loader
from quell.configs.fields import Needs
from quell.configs.schema import RunConfig
from quell.configs.support.paths import ROOT
from quell.launch.data import loading
from quell.launch.data.finishing import Finisher
from quell.launch.methods import method_of
from quell.shards.building.writer import write_split
from quell.shards.reading.batch_assembler import BatchAssembler, BatchPlan
from quell.shards.reading.loaders import BLOCK_STEPS, PLANNED_SAMPLES, Loader
from quell.shards.reading.order import SampleOrder
from quell.shards.reading.recipe import Recipe
from quell.shards.reading.shard_set import ShardSet


class Data(NamedTuple):
    """The images that a configuration is for."""

    dtype: str
    shape: tuple[int, ...]
    megabytes: int
    """Of each split: more than a processor's cache holds."""


DATA = {
    "knee": Data("complex64", (320, 320), 80),
    "phantom": Data("float32", (256, 256), 60),
    "gray": Data("float32", (180, 180), 60),
    "ldct": Data("float32", (512, 512), 60),
    "oct": Data("float32", (450, 900), 100),
    "underwater": Data("uint8", (600, 800, 3), 60),
}
"""Last part of `data.root` in configs/ -> what is stored there (docs/data.md)."""
DEVICES = {"A100": (156e12, 312e12), "H100": (495e12, 990e12)}
"""Dense peaks of a device in TF32 and bf16, FLOP/s."""
REACHED = 0.3
"""Share of the peak that the convolutions are assumed to reach (`scaling_model.Machine`)."""


ROUNDS_S = 3.0
"""Where images take long, as when they are resized, fewer rounds are measured."""


class Stages(NamedTuple):
    """Microseconds of CPU time per sample."""

    plan: float
    """Order, place in the shards, and geometry."""
    read: float
    """From the page cache."""
    convert: float
    """Cropped, turned, converted, collated."""
    loader: float
    """All of it through the loader's thread and queue."""
    verified: float
    device: float


@dataclass(frozen=True)
class Feed:
    """What the loader does for some configurations."""

    names: list[str]
    config: RunConfig
    recipe: Recipe
    order: SampleOrder
    shards: ShardSet

    @property
    def title(self) -> str:
        """Its first configuration, and how many others are fed alike."""
        others = len(self.names) - 1
        return self.names[0] + (f" and {others} alike" if others else "")


def main() -> None:
    """Measure every feed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few repetitions: shows that it runs, not how fast")
    parser.add_argument("--configs", nargs="+", metavar="NAME", help="only these of configs/")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    names = args.configs or sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
    print(f"{common.load_average()}; torch {torch.__version__}, one thread")
    stages, appetites = [], []
    with common.temporary_folder() as folder:
        for feed in feeds(names, Path(folder), quick=args.quick):
            measured = measure(feed, rounds=1 if args.quick else 4)
            stages.append(stages_row(feed, measured))
            appetites.append(appetite_row(feed, measured, scaling_model.count_cost(feed.names[0]).flops))
    common.print_table(
        ["us per sample", "crop, batch", "plan", "read", "crop, convert", "loader in all", "first epoch"], stages
    )
    devices = [f"{device} eats, TF32 / bf16" for device in DEVICES]
    cores = [f"cores for one {device}" for device in DEVICES]
    common.print_table(["samples/s", "one core feeds", *devices, *cores, "device part here, us"], appetites)


def feeds(names: list[str], folder: Path, *, quick: bool) -> Iterator[Feed]:
    """The configurations of these names, those together that train one method on equal batches."""
    together: dict[str, list[str]] = {}
    for name in names:
        config = loader.load(ROOT / "configs" / f"{name}.yaml")
        alike = (config.pipeline.name, needs_of(config), config.data, config.loop.accumulate)
        together.setdefault(repr(alike), []).append(name)
    written: dict[tuple[str, ...], Path] = {}
    for alike_names in together.values():
        config = loader.load(ROOT / "configs" / f"{alike_names[0]}.yaml")
        kind = Path(config.data.root).name
        members = sorted(set(needs_of(config).members(config.data.fields).values()))
        key = (kind, *members)
        if key not in written:
            written[key] = folder / f"{kind}{len(written)}"
            write(written[key], DATA[kind], members, quick=quick)
        shards = ShardSet.open(written[key])
        accumulate = config.loop.accumulate
        order = SampleOrder(len(shards), config.data.batch_size, config.seed, accumulate=accumulate)
        recipe = loading.training_recipe(needs_of(config), config.data, shards)
        yield Feed(alike_names, config, recipe, order, shards)


def needs_of(config: RunConfig) -> Needs:
    """What the method asks of the data."""
    return method_of(config).needs(config.pipeline)


def write(folder: Path, data: Data, members: list[str], *, quick: bool) -> None:
    """A split of random images in every member."""
    random = np.random.default_rng(0)
    image_bytes = int(np.prod(data.shape)) * np.dtype(data.dtype).itemsize
    count = max(2, (1 if quick else data.megabytes) * 10**6 // (image_bytes * len(members)))

    def image() -> np.ndarray:
        values = random.random(data.shape, dtype=np.float32)
        if data.dtype == "uint8":
            return (values * 255).astype(np.uint8)
        return (values + 1j * values[::-1]).astype(np.complex64) if data.dtype == "complex64" else values

    samples = ({"__key__": f"k{i:05d}", **{f"{name}.npy": image() for name in members}} for i in range(count))
    write_split(folder, samples, name="feed", meta={})


def measure(feed: Feed, rounds: int) -> Stages:
    """Microseconds per sample of every stage."""
    assembler = BatchAssembler(feed.shards, feed.recipe, seed=0, verify="never")
    finish = Finisher(feed.recipe, feed.shards)
    micro_batch, accumulate = feed.order.micro_batch, feed.order.accumulate
    steps = min(BLOCK_STEPS, max(1, PLANNED_SAMPLES // (micro_batch * accumulate)))
    firsts = itertools.count(0, BLOCK_STEPS)
    plans: list[BatchPlan] = []

    def plan() -> None:
        """The plans of a block of steps, as the loader makes them; the last ones are kept."""
        block = feed.order.block(next(firsts), BLOCK_STEPS, assembler.streams)
        for first in range(0, BLOCK_STEPS, steps):
            plans[:] = assembler.plans(*block.batches(first, first + steps))

    def assemble() -> None:
        for one in plans:
            assembler.assemble(one)  # and dropped: the next has its memory, as in training

    plan()
    read = reader(feed, assembler)
    started = time.process_time()
    example = assembler.assemble(plans[0])
    slow_s = (time.process_time() - started) * len(plans)
    rounds = max(1, min(rounds, int(ROUNDS_S / slow_s)))

    def device_part() -> None:
        for _ in plans:
            finish(example)

    seconds = common.time_interleaved(
        {"plan": plan, "read": lambda: read(plans), "assemble": assemble, "device": device_part},
        rounds=2 * rounds,
    )
    samples = dict.fromkeys(seconds, len(plans) * micro_batch) | {"plan": BLOCK_STEPS * accumulate * micro_batch}
    per_sample = {name: 1e6 * common.median(values) / samples[name] for name, values in seconds.items()}
    loops = [(through_loader(feed, rounds, "never"), through_loader(feed, 1, "always")) for _ in range(3)]
    loader_us, verified_us = (1e6 * common.median(values) for values in zip(*loops, strict=True))
    convert = per_sample["assemble"] - per_sample["read"]
    return Stages(per_sample["plan"], per_sample["read"], convert, loader_us, verified_us, per_sample["device"])


def reader(feed: Feed, assembler: BatchAssembler) -> Callable[[list[BatchPlan]], None]:
    """What reads the bytes that batches are cut from, and does nothing with them."""
    scratch: dict[int, memoryview] = {}

    def read(plans: list[BatchPlan]) -> None:
        for plan, field in itertools.product(plans, assembler.fields):
            crops = plan.crops[field.name]
            placement, positions = crops.placement, crops.positions
            pixel_bytes = field.info.channels * np.dtype(field.info.dtype).itemsize
            wanted = placement.widths * (crops.size[0] * pixel_bytes)
            if not placement.is_plain.all():  # resized: whole images are read
                positions, wanted = placement.rows["offset"].astype(np.int64), placement.rows["size"].astype(np.int64)
            buffers = [scratch.setdefault(size, memoryview(bytearray(size))) for size in wanted.tolist()]
            for _ in feed.shards.read_plain(placement.shards.tolist(), positions.tolist(), buffers):
                pass

    return read


def through_loader(feed: Feed, rounds: int, verify: Any) -> float:
    """Seconds of CPU time per sample of a loader, from its start to its end."""
    steps = max(4, rounds * 200 // feed.order.batch)
    start = time.process_time()
    with Loader(feed.shards, feed.order, feed.recipe, steps=steps, verify=verify, threads=1) as batches:
        for _ in batches:
            pass
        return (time.process_time() - start) / (steps * feed.order.batch)


def stages_row(feed: Feed, stages: Stages) -> list[object]:
    """What a sample costs, stage by stage."""
    resized = f"resized to {feed.config.data.resize}" if feed.config.data.resize else "whole"
    shape = f"{feed.recipe.crop or resized}, {feed.order.batch}"
    return [feed.title, shape, *(f"{value:,.1f}" for value in stages[:5])]


def appetite_row(feed: Feed, stages: Stages, operations: float) -> list[object]:
    """What one core feeds, and what devices would eat, of so many floating-point operations per sample."""
    appetites = [[REACHED * peak / operations for peak in peaks] for peaks in DEVICES.values()]
    return [
        feed.title,
        f"{1e6 / stages.loader:,.0f}",
        *(" / ".join(f"{rate:,.0f}" for rate in appetite) for appetite in appetites),
        *(f"{bf16 * stages.loader / 1e6:.2f}" for _, bf16 in appetites),
        f"{stages.device:,.1f}",
    ]


if __name__ == "__main__":
    main()
