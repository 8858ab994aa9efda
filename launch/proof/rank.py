"""One process of a training with something that happens in its third step, as `launch/train.py` runs it.

  python -m launch.proof.rank EVENT FOLDER --config YAML ...

EVENT is one of EVENTS. What the process saw is written to FOLDER/RANK.json; the exit code is that of the training.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from quell.configs.errors import MachineError
from quell.configs.schema import LoopConfig
from quell.configs.support.stop_signals import STOP_SIGNALS
from quell.launch import cli, train
from quell.launch.machine import acceleration, complex_gradients, devices
from quell.launch.training import loop
from quell.pipelines.base import Pipeline

AT_STEP = 2
FAILURE = "made to fail in the third step"
EVENTS = ("nothing", "complex", "signal", "failure", "memory")
"""Nothing; no training, but a check of complex gradients; a stop signal or an error on the last rank; no memory."""

RANK, WORLD = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def main(arguments: list[str]) -> int:
    """Train, or make the check of complex gradients, and report."""
    event, folder, *words = arguments
    assert event in EVENTS, event
    seen: dict[str, Any] = {"pid": os.getpid()}

    def report(**values: object) -> None:
        seen.update(values)
        (Path(folder) / f"{RANK}.json").write_text(json.dumps(seen))

    if event == "complex":
        report(difference=complex_difference())
        return 0
    watch(event, report)
    code = train.main(words)
    report(code=code)
    return code


def complex_difference() -> float:
    """How far gradients of a complex layer averaged over the ranks are from those of one process."""
    accelerator = acceleration.make_accelerator(LoopConfig())
    try:
        return complex_gradients.complex_gradient_difference(accelerator)
    finally:
        acceleration.close(accelerator)


def watch(event: str, report: Callable[..., None]) -> None:
    """Have the event happen inside a step, and report the weights after each."""
    train_step = loop.train_step

    def watched(phases: Any, pipeline: Pipeline, step: int, *rest: Any) -> Any:
        if step == AT_STEP:
            report(contexts=contexts() if RANK == 0 else [])
            happen(event)
        values = train_step(phases, pipeline, step, *rest)
        if step >= AT_STEP:
            report(weights=digest(pipeline))
        return values

    setattr(loop, "train_step", watched)  # noqa: B010  as the loop finds it


def happen(event: str) -> None:
    """What the step meets."""
    if event == "memory":
        device = devices.default_device()
        if device.type != "cuda":
            torch.empty(1 << 60, dtype=torch.uint8, device=device)  # asked of the allocator, and refused
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(1e-6)  # the step asks for more than it has: no batch fits
    if RANK != WORLD - 1:
        return
    if event == "signal":
        signal.raise_signal(STOP_SIGNALS[0])
    if event == "failure":
        raise MachineError(FAILURE)


def contexts() -> list[str]:
    """The processes with a context on an NVIDIA GPU, each with its GPU; empty where nvidia-smi shows none."""
    query = ["nvidia-smi", "--query-compute-apps=pid,gpu_uuid", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []


def digest(pipeline: Pipeline) -> str:
    """A hash of all weights."""
    found = hashlib.sha256()
    for value in pipeline.state_dict().values():
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


if __name__ == "__main__":
    cli.leave(main(sys.argv[1:]))
