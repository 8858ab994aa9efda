"""ZeRO-1, 2 and 3 and back to one process, each going on from the other's checkpoint."""

import importlib.util
import socket
from functools import partial
from pathlib import Path

from quell.configs.support.paths import ROOT
from quell.launch.machine import devices
from quell.launch.proof import processes
from quell.launch.proof.outcomes import Check, SkippedError
from quell.launch.proof.several import CONFIG, RANKS
from quell.launch.proof.steps import small, write_config

STEPS = 3
"""Steps in each stage."""
STAGES = ("deepspeed_zero1", "deepspeed_zero3", "deepspeed_zero2", None)
"""A file of configs/accelerate; None is one process without a launcher."""
TOLERANCE = 3e-4
"""Largest difference of a weight; if AdamW's moments were lost, it would be about the learning rate, 1e-3."""


def checks(roots: dict[str, Path], folder: Path) -> list[Check]:
    """Independent of --only."""
    return [("ZeRO-1, 3, 2, one process: as one process alone", partial(moved, roots, folder))]


def moved(roots: dict[str, Path], folder: Path) -> tuple[bool, str]:
    """Compare the weights of a run that is moved every few steps with those of one process."""
    if missing := [name for name in ("deepspeed", "transformers") if importlib.util.find_spec(name) is None]:
        raise SkippedError(f"{' and '.join(missing)} not installed (pip install -e '.[deepspeed]')")
    device = devices.default_device()
    if device.type not in ("cuda", "cpu") or (device.type == "cpu" and devices.has_accelerator()):
        raise SkippedError(f"DeepSpeed does not train on {device.type} here")
    count = RANKS if device.type == "cpu" else min(RANKS, devices.module_of(device).device_count())
    file = write_config(small(CONFIG, roots, tf32=False), folder / "zero.yaml")
    steps = STEPS * len(STAGES)
    for run, stage, until in [
        ("zero-alone", None, steps),
        *(("zero-moved", stage, STEPS * number) for number, stage in enumerate(STAGES, 1)),
    ]:
        ended = _train(stage, count, file, folder / run, until)
        if ended.code:
            return False, f"{stage or 'one process'} ended with {ended.code}: {ended.last_line()}"
    alone, after = (processes.weights_of(folder / run, steps) for run in ("zero-alone", "zero-moved"))
    apart = max(float((alone[key].double() - after[key].double()).abs().max()) for key in alone)
    return apart < TOLERANCE, f"weights {apart:.1e} apart, allowed {TOLERANCE:.0e}, {count} processes"


def _train(stage: str | None, count: int, file: Path, run: Path, until: int) -> processes.Ended:
    settings = ["data.batch_size=4", "optimizer.lr=1e-3", "schedule.name=constant", "schedule.warmup_steps=0"]
    length = ["loop.threads=1", f"loop.max_steps={until}"]
    words = ["launch/train.py", "--config", file, *settings, *length, "--run-dir", run]
    if stage is None:
        return processes.run(*words)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(ROOT / "configs" / "accelerate" / f"{stage}.yaml"),
    ]
    # under ACCELERATE_USE_CPU=true accelerate would leave DeepSpeed out without a word
    return processes.run(
        *launcher,
        *("--num_processes", count, "--main_process_port", port),
        *words,
        env={"ACCELERATE_USE_CPU": "false"},
    )
