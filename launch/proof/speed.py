"""How fast configurations train as they are shipped, how long they wait, what they launch, and their peak memory."""

import itertools
import math
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from quell.configs import loader
from quell.configs.schema import RunConfig
from quell.launch.machine import devices, out_of_memory
from quell.launch.proof.outcomes import Check, SkippedError
from quell.launch.proof.small_configs import (
    CONFIGS,
    KINDS,
    RANDOM,
    members,
    on_first_kind,
    only_training,
    replace_settings,
    write_roots,
)
from quell.launch.proof.steps import assembled, small
from quell.launch.training import loop
from quell.launch.training.metric_log import median_speed
from quell.launch.training.trainer import Trainer
from quell.pipelines.base import Batch

INTERVAL, INTERVALS, PROFILED = 5, 4, 4
"""Steps between two measurements, measurements (the first of which is not counted), and steps profiled after them."""
FULL_IMAGE = 320
"""Side of the images, in pixels, where a configuration trains on full ones."""
VARIANTS: list[dict[str, Any]] = [
    {"deterministic": True},
    {"deterministic": False},
    {"channels_last": True},
    {"channels_last": False},
    {"compile": True},
]
"""Settings of `loop` to be measured beside the shipped ones."""


def checks(names: list[str], roots: dict[str, Path], folder: Path) -> list[Check]:
    """Every configuration as it is shipped, and the first of them with other settings."""
    found: list[Check] = [(f"{name}: speed", partial(speed, name, roots, folder, {})) for name in names]
    for variant in VARIANTS:
        words = ", ".join(f"{key} {str(value).lower()}" for key, value in variant.items())
        found.append((f"{names[0]}: speed, {words}", partial(speed, names[0], roots, folder, variant)))
    return found


def speed(name: str, roots: dict[str, Path], folder: Path, variant: dict[str, Any]) -> tuple[bool, str]:
    """Train some steps; the numbers, which hold if they are numbers."""
    device = devices.default_device()
    if device.type == "cpu":
        if variant.get("compile"):
            raise SkippedError("compiled small steps show nothing on a CPU")
        config = small(name, roots, **variant)
    else:
        config = shipped(name, folder, **variant)
    module: Any = devices.module_of(device) if device.type != "cpu" else None
    if hasattr(module, "reset_peak_memory_stats"):
        module.reset_peak_memory_stats(device)
    measured, profiled = measure(config, folder)
    peak = devices.peak_bytes(device)
    numbers = [
        f"{measured['images_per_s']:.4g} images/s at batch {config.data.batch_size} of {Path(config.data.root).name}",
        f"{measured['step_ms']:.4g} ms a step",
        f"{100 * measured['data_wait']:.0f} % waiting for data",
        profiled,
        f"peak {out_of_memory.in_words(peak)}" if peak else "",
        "made small" if device.type == "cpu" else "",
    ]
    return all(map(math.isfinite, measured.values())), ", ".join(filter(None, numbers))


def shipped(name: str, folder: Path, **loop_settings: object) -> RunConfig:
    """A configuration with its own networks, batch, crop and precision, on made-up images with random VGG weights."""
    settings: dict[str, Any] = loader.load(CONFIGS[name]).model_dump(mode="json")
    settings["pipeline"] = replace_settings(settings["pipeline"], {"vgg": RANDOM, "vgg16": RANDOM})
    settings["loop"] |= {"epochs": None, "max_steps": 100_000, **loop_settings}
    settings["data"] |= {"limit": None}
    settings["tracking"] |= {"log_every": INTERVAL, "wandb_project": None}
    only_training(settings)
    batch, crop = settings["data"]["batch_size"], settings["data"]["crop"]
    side = max(crop + 16, 64) if crop else FULL_IMAGE
    root = folder / f"{name}-shards"
    if not root.exists():
        names, counts = members(loader.load(CONFIGS[name])), {"train": max(batch, 8), "val": 2}
        write_roots(root, (side, side), names=names, counts=counts)
    return on_first_kind(settings, {kind: root / kind for kind in KINDS}, name)


def measure(config: RunConfig, folder: Path) -> tuple[dict[str, float], str]:
    """Medians over the intervals, and what the profiler saw of the device in the steps after them."""
    config = config.model_copy(update={"tracking": config.tracking.model_copy(update={"log_every": INTERVAL})})
    found: list[str] = []
    with assembled(config, folder / "run") as trainer:
        with trainer.batches() as batches:
            loop.train(trainer, _profiled(trainer.on_device(batches), trainer, found))
        return median_speed(trainer.speeds), "".join(found)


def _profiled(batches: Iterator[list[Batch]], trainer: Trainer, found: list[str]) -> Iterator[list[Batch]]:
    """The batches to measure, then some under the profiler where the device is CUDA."""
    yield from itertools.islice(batches, INTERVAL * INTERVALS)
    if trainer.context.device.type != "cuda":
        return
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        yield from itertools.islice(batches, PROFILED)
        torch.cuda.synchronize()
    found.append(of_device(profiler.events() or []))


def of_device(events: Iterable[Any]) -> str:
    """Launches in each step, and the share of the time between the first and the last in which a kernel ran."""
    on_device, launches = [], 0
    for event in events:
        if event.device_type == torch.autograd.DeviceType.CUDA:
            on_device.append((event.time_range.start, event.time_range.end))
        elif event.name.startswith(("cudaLaunch", "cuLaunch", "cudaGraphLaunch")):
            launches += 1
    if not on_device:
        return "the profiler saw no kernels"
    return f"{launches / PROFILED:.0f} launches a step, busy {100 * busy(on_device):.0f} %"


def busy(intervals: list[tuple[float, float]]) -> float:
    """Share of the time from the first beginning to the last end that is inside one of the intervals, or several."""
    covered, until = 0.0, -math.inf
    for begin, end in sorted(intervals):
        covered += max(end - max(begin, until), 0.0)
        until = max(until, end)
    whole = until - min(begin for begin, _ in intervals)
    return covered / whole if whole > 0 else 1.0
