"""A lower bound on the time of each method's training step, from its arithmetic and its bytes, and the time measured.

Arithmetic is counted by torch (convolutions and matrix products, forward and backward). Bytes are a lower bound too:
each activation kept for the backward pass is written and read once, and each trained weight is read and written with
its gradient and Adam's two moments. The machine's peaks are measured in the same run, on one thread, with a matrix
product and with a copy.
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

from benchmarks.support import common, flops
from quell.launch.machine import acceleration

ADAM_PASSES = 8
"""Bytes a step moves for a weight, in units of its size: gradient, weight and two moments are each read and written."""


def fastest(function: Callable[[], object], times: int) -> float:
    """Processor seconds of the fastest of several calls."""
    seconds = []
    for _ in range(times):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return min(seconds)


def measure_peaks() -> tuple[float, float]:
    """FLOP/s of a 1024 x 1024 matrix product and bytes/s of a copy of 256 MiB, both on one thread."""
    a, b = torch.rand(1024, 1024), torch.rand(1024, 1024)
    source = torch.rand(64 * 2**20)
    target = torch.empty_like(source)
    flops_per_s = 2 * 1024**3 / fastest(lambda: a @ b, 8)
    return flops_per_s, 2 * source.nbytes / fastest(lambda: target.copy_(source), 5)


def count_operations_and_bytes(step: Callable[[], object]) -> tuple[float, float]:
    """Floating-point operations of a step, and bytes of the activations it saves for its backward passes."""
    saved: dict[int, int] = {}  # by address: several saved tensors may share a storage

    def record(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda x: x):
        operations = flops.count(step)
    return operations, float(sum(saved.values()))


def table_row(name: str, flops_per_s: float, bytes_per_s: float, times: int) -> list[str]:
    """One method's row of the table."""
    side = common.SIDE_PX.get(name, 64)
    with common.temporary_folder() as folder:
        root = common.write_shards(Path(folder), side=side, **common.image_kind(name))
        config = common.load_config(
            name, root, *common.SMALL[name], f"data.crop={side}", "data.batch_size=4", "loop.accumulate=1"
        )
        step = common.TrainingStep.build(config, acceleration.make_accelerator(config.loop))
    step()  # allocates gradients and moments
    operations, activations = count_operations_and_bytes(step)
    weights = sum(parameter.nbytes for phase in step.phases for parameter in phase.parameters)
    moved = 2 * activations + ADAM_PASSES * weights
    arithmetic_s, memory_s = operations / flops_per_s, moved / bytes_per_s
    floor_s = max(arithmetic_s, memory_s)
    limit = "arithmetic" if arithmetic_s >= memory_s else "memory"
    measured_s = fastest(step, times)
    return [
        name,
        f"{operations / 1e9:.2f}",
        f"{moved / 2**20:.0f}",
        f"{1e3 * floor_s:.1f} ({limit})",
        f"{1e3 * measured_s:.1f}",
        f"{measured_s / floor_s:.1f}",
    ]


def main() -> None:
    options = common.parse_options(__doc__ or "")
    warnings.simplefilter("ignore")
    flops_per_s, bytes_per_s = measure_peaks()
    print(f"one thread: {flops_per_s / 1e9:.0f} GFLOP/s in a matrix product, {bytes_per_s / 2**30:.1f} GiB/s in a copy")
    rows = [table_row(name, flops_per_s, bytes_per_s, 1 if options.quick else 5) for name in options.only]
    common.print_table(["method", "GFLOP", "MiB moved", "floor, ms", "measured, ms", "measured / floor"], rows)


if __name__ == "__main__":
    main()
