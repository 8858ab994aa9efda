"""Training steps of every configuration: without a wait, equal to those of the CPU, and the same when repeated."""

import itertools
import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from quell.configs import loader
from quell.configs.schema import RunConfig
from quell.launch.machine import acceleration, devices
from quell.launch.machine.precision import multiplies
from quell.launch.proof.outcomes import Check, SkippedError
from quell.launch.proof.small_configs import CONFIGS, on_first_kind, only_training, small_settings
from quell.launch.runs.folder import RunFolder
from quell.launch.runs.tracker import Tracker
from quell.launch.training import loop
from quell.launch.training.trainer import Trainer, assemble
from quell.pipelines.base import Batch

STEPS = 3
PRECISIONS = ("no", "bf16", "fp16")

TOLERANCE = 1e-4
"""Largest relative difference of a loss between devices that float32 and another order of summation explain."""
TF32_TOLERANCE = 2e-2
"""The same for inputs rounded to the 11 bits of TF32 in networks of some twenty layers; a bound for what is broken."""
FIRST_WITH_TF32 = 8
"""Compute capability of Ampere."""

Values = list[dict[str, float]]
"""What each step logged."""


def checks(names: list[str], roots: dict[str, Path], folder: Path) -> list[Check]:
    """For every configuration: each precision without waits, and losses against the CPU's and against themselves."""
    device = devices.default_device()
    found: list[Check] = []
    for name in names:
        for precision in PRECISIONS:
            found.append(
                (f"{name}: {STEPS} steps, {precision}", partial(without_waits, name, precision, roots, folder))
            )
        found.append((f"{name}: losses repeat bit for bit", partial(repeats, name, roots, folder)))
        if device.type != "cpu":
            found.append((f"{name}: losses as on the CPU", partial(as_on_cpu, name, roots, folder)))
    return found


def without_waits(name: str, precision: str, roots: dict[str, Path], folder: Path) -> tuple[bool, str]:
    """Train under torch's check that raises at every wait for a CUDA device; the losses are finite."""
    device = devices.default_device()
    if not multiplies(device, precision):
        raise SkippedError(f"{devices.describe(device)} does not multiply {precision}")
    values = train(
        small(name, roots, precision=precision), folder, _refuse_waits if device.type == "cuda" else nullcontext
    )
    losses = [value for step in values for key, value in step.items() if key.startswith("loss_")]
    seen = "no wait" if device.type == "cuda" else f"waits are not seen on {device.type}"
    return bool(losses) and all(map(math.isfinite, losses)), f"last loss {losses[-1]:.6g}, {seen}"


def repeats(name: str, roots: dict[str, Path], folder: Path) -> tuple[bool, str]:
    """Two trainings log the same numbers, as `loop.deterministic` promises."""
    first, second = (train(small(name, roots), folder) for _ in range(2))
    return first == second, f"largest difference {difference(first, second):.1e}"


def as_on_cpu(name: str, roots: dict[str, Path], folder: Path) -> tuple[bool, str]:
    """The losses of the first step in float32 differ from the CPU's by rounding only, to TF32 where that is allowed."""
    device = devices.default_device()
    exact, rounded = (train(small(name, roots, tf32=tf32), folder)[:1] for tf32 in (False, True))
    with mock.patch.dict(os.environ, {"ACCELERATE_USE_CPU": "true"}):
        there = train(small(name, roots, tf32=False), folder)[:1]
    apart, with_tf32 = (difference(here, there, only="loss_") for here in (exact, rounded))
    found = f"relative difference {apart:.1e}, allowed {TOLERANCE:.0e}; with TF32 {with_tf32:.1e}"
    if device.type == "cuda" and torch.cuda.get_device_capability(device)[0] < FIRST_WITH_TF32:
        found += " (this GPU has none)"
    return apart < TOLERANCE and with_tf32 < TF32_TOLERANCE, f"{found}, allowed {TF32_TOLERANCE:.0e}"


def train(
    config: RunConfig, folder: Path, inside: Callable[[], AbstractContextManager[object]] = nullcontext
) -> Values:
    """Train some steps on this machine's device; what each logged. `inside` surrounds every step but the first."""
    logged: list[dict[str, Any]] = []
    with assembled(config, folder / "run") as trainer:
        add = trainer.log.add

        def keep(values: dict[str, Any]) -> None:
            logged.append(values)
            add(values)

        with mock.patch.object(trainer.log, "add", keep), trainer.batches() as batches:
            loop.train(trainer, _watched(iter(batches), inside))
        return [{key: float(value) for key, value in values.items()} for values in logged]


@contextmanager
def assembled(config: RunConfig, folder: Path) -> Iterator[Trainer]:
    """A training in this process, which inside the block may take steps, and which records nothing."""
    accelerator = acceleration.make_accelerator(config.loop)
    try:
        run_folder = RunFolder(folder)
        run_folder.create()
        yield assemble(config, accelerator, run_folder, Tracker(run_folder, active=False, tensorboard=False))
    finally:
        acceleration.close(accelerator)


def small(name: str, roots: dict[str, Path], *, precision: str = "no", **loop_settings: object) -> RunConfig:
    """A shipped configuration made small, with nothing but training between its steps."""
    settings = small_settings(CONFIGS[name], Path())
    settings["loop"] |= {"precision": precision, "epochs": None, "max_steps": 100, "threads": 0, **loop_settings}
    settings["tracking"] |= {"log_every": 1000}
    only_training(settings)
    return on_first_kind(settings, roots, name)


def difference(first: Values, second: Values, only: str = "") -> float:
    """Largest relative difference between what two trainings logged, of numbers whose name begins with `only`."""
    apart = [
        abs(step[key] - other[key]) / max(abs(other[key]), 1e-6)
        for step, other in zip(first, second, strict=True)
        for key in step
        if key.startswith(only) and step[key] != other[key]
    ]
    return max(apart, default=0.0)


def _watched(
    batches: Iterator[list[Batch]], inside: Callable[[], AbstractContextManager[object]]
) -> Iterator[list[Batch]]:
    """Some batches; what the loop does from one to the next is inside the context. The first step may fill caches."""
    for number, batch in enumerate(itertools.islice(batches, STEPS)):
        with inside() if number else nullcontext():
            yield batch


@contextmanager
def _refuse_waits() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def write_config(config: RunConfig, file: Path) -> Path:
    """The configuration as a file, for a training in a process of its own."""
    file.write_text(loader.dump(config), encoding="utf-8")
    return file
