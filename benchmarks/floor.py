"""The arithmetic and the bytes of a training step of each method, the time they imply at least, and the time taken.

Arithmetic is counted by torch (convolutions and matrix products, forward and backward). Bytes are a lower bound: each
activation kept for the backward pass is written and read once, each trained weight is read and written with its
gradient and Adam's two moments. Peaks are measured in the same run, on one thread: a matrix product, and a copy.
"""

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from torch import Tensor

from benchmarks.support import common
from benchmarks.support import flops as _flops
from launch.machine import acceleration, memory_layout
from launch.training import build
from launch.training.phases import train_step

ADAM_PASSES = 8
"""Times a weight's size that a step moves at least: gradient written and read; weight and two moments both ways."""


def fastest(function: Callable[[], object], times: int) -> float:
    """Least seconds of processor time of several calls."""
    seconds = []
    for _ in range(times):
        began = time.process_time()
        function()
        seconds.append(time.process_time() - began)
    return min(seconds)


def peaks() -> tuple[float, float]:
    """Floating-point operations and bytes a second of one thread: a 1024 x 1024 matrix product, a copy of 256 MiB."""
    a, b = torch.rand(1024, 1024), torch.rand(1024, 1024)
    source = torch.rand(64 * 2**20)
    target = torch.empty_like(source)
    flops = 2 * 1024**3 / fastest(lambda: a @ b, 8)
    return flops, 2 * source.nbytes / fastest(lambda: target.copy_(source), 5)


def counted(step: Callable[[], object]) -> tuple[float, float]:
    """Operations of a step, and bytes of the activations it keeps for its backward passes."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        flops = _flops.count(step)
    return flops, float(sum(kept.values()))


def row(name: str, peak_flops: float, peak_bytes: float, times: int) -> list[str]:
    """One method's line of the table."""
    side = common.SIDE.get(name, 64)
    with common.temporary() as folder:
        root = common.shards(Path(folder), side=side, **common.colours(name))
        config = common.configured(
            name, root, *common.SMALL[name], f"data.crop={side}", "data.batch_size=4", "loop.accumulate=1"
        )
        accelerator = acceleration.make_accelerator(config.loop)
        pipeline, batches = common.built(config)
    memory_layout.place(pipeline, accelerator.device, config.loop)
    phases = build.make_phases(accelerator, pipeline, config)
    scaler = torch.amp.GradScaler("cpu", enabled=False)

    def step() -> None:
        train_step(phases, pipeline, 0, batches, scaler)

    step()
    flops, activations = counted(step)
    trained = sum(p.nbytes for phase in phases for p in phase.parameters)
    moved = 2 * activations + ADAM_PASSES * trained
    floor = max(flops / peak_flops, moved / peak_bytes)
    limit = "arithmetic" if flops / peak_flops >= moved / peak_bytes else "memory"
    taken = fastest(step, times)
    return [
        name,
        f"{flops / 1e9:.2f}",
        f"{moved / 2**20:.0f}",
        f"{1e3 * floor:.1f} ({limit})",
        f"{1e3 * taken:.1f}",
        f"{taken / floor:.1f}",
    ]


def main() -> None:
    options = common.options(__doc__ or "")
    warnings.simplefilter("ignore")
    flops, bytes_s = peaks()
    print(f"one thread: {flops / 1e9:.0f} GFLOP/s in a matrix product, {bytes_s / 2**30:.1f} GiB/s in a copy")
    rows = [row(name, flops, bytes_s, 1 if options.quick else 5) for name in options.only]
    common.table(["method", "GFLOP", "MiB moved", "floor, ms", "taken, ms", "taken / floor"], rows)


if __name__ == "__main__":
    main()
