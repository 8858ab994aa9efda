"""One rank of scaling_two_processes.py: train in every mode, interleaved; rank 0 writes the seconds of a step."""

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
from quell.configs.schema import RunConfig
from quell.launch.machine import acceleration

BLOCK_S = 1.0
"""About how long one mode trains before the next one."""

DDP_MODES = {
    "two, DDP": {},
    "two, DDP, static graph": {"static_graph": True},
    "two, DDP, without bucket views": {"gradient_as_bucket_view": False},
    "two, DDP, search for unused parameters": {"find_unused_parameters": True},
}
"""Mode -> settings of DDP that differ from the launcher's own."""


def build_step(
    accelerator: Accelerator, config: RunConfig, *, communicate: bool = True, **settings: bool
) -> Callable[[], object]:
    """A training step of a pipeline of this rank's own.

    Args:
        accelerator: The launcher's accelerator.
        config: What to train.
        communicate: Average gradients with the other rank.
        settings: DDP settings to use in place of the launcher's.
    """
    handler = accelerator.ddp_handler
    assert handler is not None
    launcher_settings = {name: getattr(handler, name) for name in settings}
    vars(handler).update(settings)
    step = common.TrainingStep.build(config, accelerator)
    vars(handler).update(launcher_settings)
    if not communicate:
        for phase in step.phases:
            phase.view = phase.view.module
    return step


def time_block(step: Callable[[], object], steps: int, *, idle: bool) -> float:
    """Seconds per step on the slower rank; an idle rank sleeps until the other has finished."""
    dist.barrier()
    start = time.perf_counter()
    for _ in range(0 if idle else steps):
        step()
    step_s = torch.tensor((time.perf_counter() - start) / steps)
    dist.all_reduce(step_s, op=dist.ReduceOp.MAX)
    return float(step_s)


def reduction_s(count: int) -> float:
    """Seconds of an all-reduce of this many float32 numbers, by itself."""
    seconds = []
    for _ in range(7):
        gradients = torch.zeros(count)
        dist.barrier()
        start = time.perf_counter()
        dist.all_reduce(gradients)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main(name: str, root: Path, per_process: int, rounds: int, out: Path) -> None:
    """Time every mode in every round, and write the results."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    config = common.load_config(name, root, *common.REALISTIC[name], "loop.accumulate=1")
    accelerator = acceleration.make_accelerator(config.loop)
    config = config.model_copy(update={"data": config.data.model_copy(update={"batch_size": per_process})})
    independent = build_step(accelerator, config, communicate=False)
    modes = {
        "one process": independent,
        "two, without communication": independent,
        **{mode: build_step(accelerator, config, **settings) for mode, settings in DDP_MODES.items()},
    }
    for step in modes.values():
        for _ in range(2):
            step()
    steps = max(1, round(BLOCK_S / time_block(independent, 2, idle=False)))
    seconds: dict[str, list[float]] = {mode: [] for mode in modes}
    order = random.Random(0)  # the same in both ranks
    for _ in range(rounds):
        for mode, step in order.sample(list(modes.items()), len(modes)):
            idle = mode == "one process" and accelerator.process_index > 0
            seconds[mode].append(time_block(step, steps, idle=idle))
    pipeline, _ = common.build_first_step(config)
    count = common.count_parameters(pipeline)
    reduction = reduction_s(count)
    if accelerator.process_index == 0:
        out.write_text(json.dumps({"step_s": seconds, "parameters": count, "reduction_s": reduction}), encoding="utf-8")
    acceleration.close(accelerator)


if __name__ == "__main__":
    name, root, per_process, rounds, out = sys.argv[1:]
    main(name, Path(root), int(per_process), int(rounds), Path(out))
