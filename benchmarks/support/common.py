"""What the benchmarks share: rivals measured in turns, medians with their spread, tables, small runs without files."""

import argparse
import multiprocessing
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from configs import loader
from configs.schema import RunConfig
from configs.support.paths import ROOT
from launch.data import loading
from launch.machine import rng
from launch.training import build
from pipelines.base import Batch, Pipeline
from shards.building.writer import write_split
from shards.reading.loaders import Loader
from shards.reading.shard_set import ShardSet

MEMBERS = (
    "noisy",
    "noisy_other",
    "unpaired_clean",
    "clean",
    "pd",
    "pdfs",
    "pd_clean",
    "pdfs_clean",
    *(f"noisy_{i}" for i in range(1, 5)),
)
"""Every member that a shipped configuration reads."""

SIDE = {"tcfl": 96, "spectroformer": 96, "cncl": 96, "drgan": 96}
"""Side of the images in pixels where it is not 64."""


def options(description: str, **flags: str) -> argparse.Namespace:
    """`--quick`: few repetitions, to see that a benchmark runs; its numbers mean little. `flags`: others, with help."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repetitions: shows that it runs, not how fast")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        default=list(SMALL),
        choices=list(SMALL),
        help="these configurations only, where a benchmark goes through all methods",
    )
    for name, text in flags.items():
        parser.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=text)
    found = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, torch "
        f"{torch.__version__}, one thread a process" + (", quick" if found.quick else "")
    )
    return found


def in_turns(rivals: dict[str, Callable[[], object]], *, rounds: int, calls: int = 1) -> dict[str, list[float]]:
    """Seconds of processor time per call of each rival in each round, all its threads together.

    All take part in every round, each time in another order, so a busy moment hits them all; and the processor's time
    is not stretched by other programs as the clock's is (on an idle machine, one thread, the two are equal).
    """
    for function in rivals.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    order = random.Random(0)
    for _ in range(rounds):
        for name, function in order.sample(list(rivals.items()), len(rivals)):
            began = time.process_time()
            for _ in range(calls):
                function()
            seconds[name].append((time.process_time() - began) / calls)
    return seconds


def in_turns_apart(makers: dict[str, Callable[[], Callable[[], object]]], *, rounds: int) -> dict[str, list[float]]:
    """As `in_turns`, each rival made and called in a forked process of its own, after two calls to warm up.

    Rivals then share no memory, no caches of the allocator and no setting of the process.
    """
    context = multiprocessing.get_context("fork")
    seconds: dict[str, list[float]] = {name: [] for name in makers}
    pipes, processes = {}, []
    try:
        for name, make in makers.items():
            pipes[name], theirs = context.Pipe()
            processes.append(context.Process(target=_called, args=(make, theirs), daemon=True))
            processes[-1].start()
            theirs.close()
            pipes[name].recv()
        order = random.Random(0)
        for _ in range(rounds):
            for name, pipe in order.sample(list(pipes.items()), len(pipes)):
                pipe.send(True)
                seconds[name].append(pipe.recv())
    finally:
        for process in processes:
            process.terminate()
            process.join()
    return seconds


def _called(make: Callable[[], Callable[[], object]], pipe: Connection) -> None:
    """A rival's process: a call, and the processor time it took, for each word received."""
    function = make()
    function()
    function()
    pipe.send(0.0)
    while pipe.recv():
        began = time.process_time()
        function()
        pipe.send(time.process_time() - began)


def middle(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """Half the distance between the quartiles, as a share of the median."""
    low, high = np.percentile(values, [25, 75])
    return f"± {50 * (high - low) / middle(values):.0f} %"


def times_faster(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Median over rounds of the ratio within a round, which a machine's changing load cancels out of."""
    return middle([a / b for a, b in zip(slow, fast, strict=True)])


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print Markdown."""
    print("\n| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row) + " |")
    print(flush=True)


def shards(folder: Path, *, side: int, count: int = 8, channels: int = 1, complex_: bool = False) -> Path:
    """Train and val splits of noisy smooth images with every member; the root."""
    generator = np.random.default_rng(0)
    shape = (side, side) if channels == 1 else (side, side, channels)
    y, x = np.mgrid[:side, :side] / side
    smooth = 0.5 + 0.3 * np.sin(9 * x) * np.cos(7 * y)

    def image(name: str) -> np.ndarray:
        base = smooth if channels == 1 else smooth[..., None].repeat(channels, 2)
        noise = 0.0 if "clean" in name else 0.1
        real = base + noise * generator.standard_normal(shape)
        return (
            (real + 1j * noise * generator.standard_normal(shape)).astype(np.complex64)
            if complex_
            else real.astype(np.float32)
        )

    for split in ("train", "val"):
        samples = [{"__key__": f"{split}{i}", **{f"{name}.npy": image(name) for name in MEMBERS}} for i in range(count)]
        write_split(folder / split, samples, name="bench", meta={"data_range": 1.0})
    return folder


def configured(name: str, root: Path, *overrides: str) -> RunConfig:
    """A shipped configuration on these shards, without a TensorBoard."""
    return loader.load(
        ROOT / "configs" / f"{name}.yaml",
        [f"data.root={root}", "tracking.tensorboard=false", "loop.threads=1", *overrides],
    )


def built(config: RunConfig) -> tuple[Pipeline, list[Batch]]:
    """The pipeline with its seeded weights, and the micro-batches of the first step."""
    rng.seed_everything(config.seed)
    split = ShardSet.open(Path(config.data.root) / config.data.train_split)
    pipeline = build.make_pipeline(config, split)
    plan = build.make_order(config, len(split), 0, 1)
    recipe = loading.training_recipe(type(pipeline).needs(config.pipeline), config.data, split)
    with Loader(split, plan, recipe, steps=1) as batches:
        (first,) = batches
    return pipeline, first


def temporary() -> tempfile.TemporaryDirectory[str]:
    """A folder that goes away."""
    return tempfile.TemporaryDirectory(prefix="quell-bench-")


def parameters(pipeline: Pipeline) -> int:
    """Learned numbers."""
    return sum(p.numel() for p in pipeline.parameters() if p.requires_grad)


def described(values: dict[str, Any]) -> str:
    """`a 1, b 2`."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


SMALL = {
    "pure_noise2noise": [
        "pipeline.encoder_features=[8,16,32]",
        "pipeline.decoder_features=[32,16,8]",
        "pipeline.latent_channels=32",
    ],
    "cross_guided": ["pipeline.network.widths=[8,16,32]", "pipeline.network.blocks=[1,1,1]", "loop.precision=no"],
    "supervised": ["pipeline.network.depth=6", "pipeline.network.width=16"],
    "noise2noise": ["pipeline.network.width=8"],
    "r2r": ["pipeline.network.depth=6", "pipeline.network.width=16"],
    "tcfl": ["pipeline.generator.depth=5", "pipeline.generator.width=16", "pipeline.critic.width=8"],
    "cncl": ["pipeline.content.width=8", "pipeline.noise.width=8", "pipeline.critic.width=8"],
    "drgan": ["pipeline.width=8", "pipeline.blocks=2", "pipeline.critic.width=8", "pipeline.noise_patch_px=32"],
    "spectroformer": ["pipeline.losses.vgg={weights: null, random_trunk: true}", "pipeline.losses.msssim.scales=1"],
}
"""One configuration of each method, and what makes it small enough for a CPU."""


def colours(name: str) -> dict[str, Any]:
    """The kind of images a method of SMALL is for, as arguments of `shards`."""
    if name in ("pure_noise2noise", "cross_guided"):
        return {"complex_": True}
    return {"channels": 3} if name == "spectroformer" else {}


REALISTIC = {
    "pure_noise2noise": [
        "pipeline.encoder_features=[32,64,128]",
        "pipeline.decoder_features=[128,64,32]",
        "pipeline.latent_channels=128",
        "data.crop=64",
    ],
    "tcfl": ["data.crop=40", "pipeline.batch_passes=true"],
}
"""Networks near their real size, for benchmarks of two processes."""
