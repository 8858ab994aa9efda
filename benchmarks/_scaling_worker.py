"""One rank of scaling_two_processes.py: times whole training steps of one configuration; rank 0 writes the seconds."""

import json
import statistics
import sys
import time
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
import torch.distributed as dist

from benchmarks import _common as common
from launch import environment, session
from launch.phases import train_step


def main(name: str, root: Path, per_process: int, seconds: float, out: Path, alone: bool) -> None:
    """Steps for so many seconds. `alone`: the process trains by itself although another one runs beside it."""
    torch.set_num_threads(1)
    config = common.configured(name, root, *common.REALISTIC[name], "loop.accumulate=1")
    accelerator = environment.make_accelerator(config.loop)
    world, rank = accelerator.num_processes, accelerator.process_index
    config = config.model_copy(update={"data": config.data.model_copy(update={"batch_size": per_process})})
    pipeline, batches = common.built(config)
    phases = session.make_phases(accelerator, pipeline, config)
    if alone and world > 1:
        for phase in phases:
            phase.view = phase.view.module
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    for _ in range(3):
        train_step(phases, pipeline, 0, batches, scaler)
    times, spent = [], torch.zeros(1)
    while float(spent) < seconds:
        began = time.perf_counter()
        train_step(phases, pipeline, 0, batches, scaler)
        times.append(time.perf_counter() - began)
        spent += times[-1]
        if world > 1 and len(times) % 5 == 0:
            dist.broadcast(spent, 0)  # all ranks take the same number of steps
        elif world > 1 and float(spent) >= seconds:
            spent[0] = min(float(spent), seconds - 1e-3)
    reduced = []
    for _ in range(7 if world > 1 else 0):
        gradients = torch.zeros(sum(len(p.flatten()) for phase in phases for p in phase.parameters))
        began = time.perf_counter()
        dist.all_reduce(gradients)
        reduced.append(time.perf_counter() - began)
    if rank == 0:
        out.write_text(json.dumps({"world": world, "step_s": statistics.median(times), "steps": len(times),
                                   "parameters": common.parameters(pipeline),
                                   "all_reduce_s": statistics.median(reduced or [0.0])}))
    environment.close(accelerator)


if __name__ == "__main__":
    name, root, per_process, seconds, out, alone = sys.argv[1:]
    main(name, Path(root), int(per_process), float(seconds), Path(out), alone == "alone")
