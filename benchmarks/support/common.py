"""What the benchmarks share: interleaved timing, medians and their spread, tables, and small training steps."""

import argparse
import multiprocessing
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from quell.configs import loader
from quell.configs.schema import RunConfig
from quell.configs.support.paths import ROOT
from quell.launch.data import loading
from quell.launch.data.finishing import Finisher
from quell.launch.machine import memory_layout, precision, rng
from quell.launch.training import build
from quell.launch.training.phases import Phase, train_step
from quell.pipelines.base import Batch, Pipeline
from quell.shards.building.writer import write_split
from quell.shards.reading.loaders import Loader
from quell.shards.reading.shard_set import ShardSet

FIELDS = (
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
"""Every field that a configuration in configs/ reads."""

SIDE_PX = {"tcfl": 96, "spectroformer": 96, "cncl": 96, "drgan": 96}
"""Side of a method's images where 64 px are too few."""


def parse_options(description: str, **flags: str) -> argparse.Namespace:
    """Parse the command line of a benchmark, use one thread, and print what the machine is.

    Args:
        description: The module's docstring, whose first line is the help text.
        flags: Further switches, with their help texts. Every benchmark has `--quick` and `--only`.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repetitions: shows that it runs, not how fast")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        default=list(SMALL),
        choices=list(SMALL),
        help="only these configurations, in benchmarks that measure every method",
    )
    for name, text in flags.items():
        parser.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=text)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, torch "
        f"{torch.__version__}, one thread per process" + (", quick" if options.quick else "")
    )
    return options


def load_average() -> str:
    """The machine's load over 1, 5 and 15 minutes, and its number of cores, for the head of a table."""
    return f"load {' '.join(f'{value:.1f}' for value in os.getloadavg())} on {os.cpu_count()} cores"


def time_interleaved(
    candidates: Mapping[str, Callable[[], object]], *, rounds: int, calls: int = 1
) -> dict[str, list[float]]:
    """Seconds of processor time per call of each candidate in each round, summed over its threads.

    Every candidate runs once per round, in an order that changes from round to round, so that other load on the machine
    affects all of them alike. Processor time, unlike the clock's, does not include other programs (on an idle machine
    and with one thread the two are equal).
    """
    for function in candidates.values():
        function()  # warm up
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    order = random.Random(0)
    for _ in range(rounds):
        for name, function in order.sample(list(candidates.items()), len(candidates)):
            start = time.process_time()
            for _ in range(calls):
                function()
            seconds[name].append((time.process_time() - start) / calls)
    return seconds


def time_in_processes(
    factories: Mapping[str, Callable[[], Callable[[], object]]], *, rounds: int
) -> dict[str, list[float]]:
    """Like `time_interleaved`, with each candidate built and run in a forked process of its own.

    Candidates then share no memory, no allocator cache and no process-wide setting. Each is called twice to warm up.
    """
    context = multiprocessing.get_context("fork")
    seconds: dict[str, list[float]] = {name: [] for name in factories}
    pipes: dict[str, Connection] = {}
    processes = []
    try:
        for name, factory in factories.items():
            pipes[name], child_end = context.Pipe()
            processes.append(context.Process(target=_serve_timings, args=(factory, child_end), daemon=True))
            processes[-1].start()
            child_end.close()
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


def _serve_timings(factory: Callable[[], Callable[[], object]], pipe: Connection) -> None:
    """The process of one candidate: for each message received, call it and send back its processor time."""
    function = factory()
    function()
    function()
    pipe.send(0.0)
    while pipe.recv():
        start = time.process_time()
        function()
        pipe.send(time.process_time() - start)


def median(values: Sequence[float]) -> float:
    """The median, as `statistics.median`."""
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """Half the interquartile range, in percent of the median."""
    low, high = np.percentile(values, [25, 75])
    return f"± {50 * (high - low) / median(values):.0f} %"


def speedup(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Median over rounds of the ratio within a round, which the machine's changing load cancels out of."""
    return median([a / b for a, b in zip(slow, fast, strict=True)])


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table; floats get three significant digits."""
    print("\n| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row) + " |")
    print(flush=True)


class ImageKind(TypedDict, total=False):
    """Arguments of `write_shards` that say what kind of images it writes."""

    channels: int
    complex_: bool


def write_shards(folder: Path, *, side: int, count: int = 8, channels: int = 1, complex_: bool = False) -> Path:
    """Write splits `train` and `val` of smooth images and noisy copies in every field; return their root."""
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
        samples = [{"__key__": f"{split}{i}", **{f"{name}.npy": image(name) for name in FIELDS}} for i in range(count)]
        write_split(folder / split, samples, name="bench", meta={"data_range": 1.0})
    return folder


def load_config(name: str, root: Path, *overrides: str) -> RunConfig:
    """A configuration of configs/ on the shards in `root`, without TensorBoard."""
    return loader.load(
        ROOT / "configs" / f"{name}.yaml",
        [f"data.root={root}", "tracking.tensorboard=false", "loop.threads=1", *overrides],
    )


def build_first_step(config: RunConfig) -> tuple[Pipeline, list[Batch]]:
    """The pipeline with its seeded weights, and the micro-batches of the first step."""
    rng.seed_everything(config.seed)
    split = ShardSet.open(Path(config.data.root) / config.data.train_split)
    pipeline = build.make_pipeline(config, split)
    order = build.make_order(config, len(split), 0, 1)
    recipe = loading.training_recipe(pipeline.training_needs(), config.data, split)
    with Loader(split, order, recipe, steps=1) as batches:
        (first,) = batches
    finish = Finisher(recipe, split, order.seed)
    return pipeline, [finish(batch) for batch in first]


@dataclass(frozen=True)
class TrainingStep:
    """The launcher's own training step (launch/training/phases.py), over and over on the same micro-batches."""

    pipeline: Pipeline
    phases: list[Phase]
    batches: list[Batch]
    scaler: torch.amp.GradScaler

    @classmethod
    def build(cls, config: RunConfig, accelerator: Accelerator) -> "TrainingStep":
        """Build everything a step needs, in the memory layout that a run would choose.

        Args:
            config: What to train; `data.root` has the shards.
            accelerator: Whose device and launch target are used.
        """
        pipeline, batches = build_first_step(config)
        memory_layout.place(pipeline, accelerator.device, config.loop)
        complex_numbers = config.data.representation == "complex"
        chosen = precision.choose(config.loop, accelerator.device, complex_numbers=complex_numbers)
        phases = build.make_phases(accelerator, pipeline, config, chosen.name)
        return cls(pipeline, phases, batches, torch.amp.GradScaler("cpu", enabled=False))

    def __call__(self, step: int = 0) -> dict[str, Tensor]:
        """Train one step; returns what the step logs."""
        return train_step(self.phases, self.pipeline, step, self.batches, self.scaler)


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A context manager of a folder that is deleted at its end."""
    return tempfile.TemporaryDirectory(prefix="quell-bench-")


def count_parameters(pipeline: Pipeline) -> int:
    """Number of trained parameters."""
    return sum(p.numel() for p in pipeline.parameters() if p.requires_grad)


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
"""A configuration of each method, and the overrides that make it small enough for a CPU."""


def image_kind(name: str) -> ImageKind:
    """The kind of images that a configuration of configs/ is for."""
    data = Path(loader.load(ROOT / "configs" / f"{name}.yaml").data.root).name
    if data == "knee":
        return {"complex_": True}
    return {"channels": 3} if data == "underwater" else {}


REALISTIC = {
    "pure_noise2noise": [
        "pipeline.encoder_features=[32,64,128]",
        "pipeline.decoder_features=[128,64,32]",
        "pipeline.latent_channels=128",
        "data.crop=64",
    ],
    "tcfl": ["data.crop=40", "pipeline.batch_passes=true"],
}
"""Configurations, and overrides that keep their networks near real size, for benchmarks of two processes."""
