"""One rank of scaling_two_processes.py: takes the ways to train in turns; rank 0 writes the seconds of a step."""

import json
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import torch
import torch.distributed as dist
from accelerate import Accelerator

from benchmarks.support import common
from configs.schema import RunConfig
from launch.machine import acceleration, memory_layout
from launch.training import build
from launch.training.phases import train_step

BLOCK_S = 1.0
"""About how long a way has the word before the next one."""

DDP = {
    "two, DDP": {},
    "two, DDP, static graph": {"static_graph": True},
    "two, DDP, without bucket views": {"gradient_as_bucket_view": False},
    "two, DDP, search for unused": {"find_unused_parameters": True},
}
"""Settings of DDP that differ from the launcher's own, by way."""


def made(accelerator: Accelerator, config: RunConfig, *, apart: bool = False, **settings: bool) -> Callable[[], object]:
    """A training step of this rank's own pipeline; `apart`: without a word to the other rank."""
    pipeline, batches = common.built(config)
    memory_layout.place(pipeline, accelerator.device, config.loop)
    launchers = accelerator.ddp_handler
    assert launchers is not None
    before = {name: getattr(launchers, name) for name in settings}
    vars(launchers).update(settings)
    phases = build.make_phases(accelerator, pipeline, config)
    vars(launchers).update(before)
    for phase in phases:
        phase.view = phase.view.module if apart else phase.view
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return lambda: train_step(phases, pipeline, 0, batches, scaler)


def block(step: Callable[[], object], steps: int, *, idle: bool) -> float:
    """Seconds a step takes the slower rank; an idle one sleeps until the other has finished."""
    dist.barrier()
    began = time.perf_counter()
    for _ in range(0 if idle else steps):
        step()
    taken = torch.tensor((time.perf_counter() - began) / steps)
    dist.all_reduce(taken, op=dist.ReduceOp.MAX)
    return float(taken)


def reduction_s(count: int) -> float:
    """Seconds of averaging so many numbers, by itself."""
    seconds = []
    for _ in range(7):
        gradients = torch.zeros(count)
        dist.barrier()
        began = time.perf_counter()
        dist.all_reduce(gradients)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def main(name: str, root: Path, per_process: int, rounds: int, out: Path) -> None:
    """Rounds in which every way takes its turn."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    config = common.configured(name, root, *common.REALISTIC[name], "loop.accumulate=1")
    accelerator = acceleration.make_accelerator(config.loop)
    config = config.model_copy(update={"data": config.data.model_copy(update={"batch_size": per_process})})
    apart = made(accelerator, config, apart=True)
    ways = {
        "one process": apart,
        "two, without a word": apart,
        **{way: made(accelerator, config, **settings) for way, settings in DDP.items()},
    }
    for step in ways.values():
        for _ in range(2):
            step()
    steps = max(1, round(BLOCK_S / block(apart, 2, idle=False)))
    found: dict[str, list[float]] = {way: [] for way in ways}
    order = random.Random(0)  # the same in both ranks
    for _ in range(rounds):
        for way, step in order.sample(list(ways.items()), len(ways)):
            found[way].append(block(step, steps, idle=way == "one process" and accelerator.process_index > 0))
    pipeline, _ = common.built(config)
    count = common.parameters(pipeline)
    reduced = reduction_s(count)
    if accelerator.process_index == 0:
        out.write_text(json.dumps({"ways": found, "parameters": count, "reduction_s": reduced}))
    acceleration.close(accelerator)


if __name__ == "__main__":
    name, root, per_process, rounds, out = sys.argv[1:]
    main(name, Path(root), int(per_process), int(rounds), Path(out))
