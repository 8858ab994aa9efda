"""What limits each method on 1, 8, 64 and 1,024 GPUs: a model of one step, checked against two local processes.

The arithmetic of a step is counted on the real networks; everything else is an assumption, stated in `Machine`.
Gradients are float32 and are averaged by a ring all-reduce while the backward pass is still running.
"""

import sys
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch

from benchmarks import scaling_two_processes
from benchmarks.support import common, flops

GPUS = (1, 8, 64, 1024)


@dataclass(frozen=True)
class Machine:
    """Assumptions about the machine. Bandwidths are those that a ring all-reduce reaches, not nominal ones."""

    flops_per_s: float = 0.3 * 990e12
    """Per GPU: 30 % of an H100's dense bf16 peak, which convolutions of 64 and more channels may reach."""
    gpus_per_node: int = 8
    intra_node: float = 300e9
    """Bytes/s per GPU between GPUs of one node (NVLink)."""
    inter_node: float = 40e9
    """Bytes/s per GPU between nodes (one 400 Gbit/s port each)."""
    hop_s: float = 10e-6
    """Latency of one hop; a reduction takes 2 log2(n) of them."""
    backward_share: float = 2 / 3
    """Share of a step's arithmetic that communication can overlap with."""
    bucket_bytes: float = 25e6
    """Size of the last gradient bucket, whose communication overlaps with nothing."""
    host_s: float = 1e-3
    """Kernel launches and the loop, per step; not overlapped where kernels are short."""
    disk_bytes_per_s: float = 2e9
    """One writer on a shared file system."""


MACHINE = Machine()

TARGET_STEP_S = 0.05
MAX_IMAGES_PER_GPU = 64
"""A GPU gets as many images as it processes in the target time, and no more than this."""


STAND_INS = {
    "spectroformer": common.SMALL["spectroformer"],
    "spectroformer_reproduction": common.SMALL["spectroformer"],
    "spectroformer_official": [
        "pipeline.losses.vgg16={weight: 0.025, weights: null, random_trunk: true}",
        "pipeline.losses.msssim.scales=1",
    ],
}
"""Losses that need the weights of a VGG, for which random ones of the same size stand in."""


WHOLE_PX = 512
"""Side of the images of computed tomography, of which one configuration reads whole ones."""


class MethodCost(NamedTuple):
    """What one method costs."""

    flops: float
    """Floating-point operations of one image through all phases."""
    parameters: int
    read_bytes: float
    """Bytes read per image."""
    crop_px: int


def reduction_s(gradient_bytes: float, gpus: int, machine: Machine = MACHINE) -> float:
    """Seconds of a ring all-reduce."""
    if gpus == 1:
        return 0.0
    bandwidth = machine.intra_node if gpus <= machine.gpus_per_node else machine.inter_node
    return 2 * (gpus - 1) / gpus * gradient_bytes / bandwidth + 2 * machine.hop_s * max(1, (gpus - 1).bit_length())


def step_s(operations: float, gradient_bytes: float, gpus: int, machine: Machine = MACHINE) -> float:
    """Seconds of a step: arithmetic, the part of the reduction that does not overlap with it, and the host."""
    compute_s = operations / machine.flops_per_s
    all_buckets_s = reduction_s(gradient_bytes, gpus, machine)
    last_bucket_s = reduction_s(min(machine.bucket_bytes, gradient_bytes), gpus, machine)
    return compute_s + max(all_buckets_s - machine.backward_share * compute_s, last_bucket_s) + machine.host_s


def count_cost(name: str) -> MethodCost:
    """Count on a crop of 64 px, and scale to the configuration's own crop."""
    side = 64
    with common.temporary_folder() as folder:
        root = common.write_shards(Path(folder), side=side, count=2, **common.image_kind(name))
        overrides = STAND_INS.get(name, [])
        original = common.load_config(name, root, *overrides)
        config = common.load_config(
            name, root, *overrides, f"data.crop={side}", "data.batch_size=1", "loop.accumulate=1"
        )
        pipeline, batches = common.build_first_step(config)
        carry: dict[str, torch.Tensor] = {}

        def backward(phase: str) -> None:
            output = pipeline.loss(phase, batches[0], carry)
            output.loss.backward()
            carry.update(output.carry)

        total = sum(flops.count(partial(backward, phase)) for phase in pipeline.phases)
    resized = original.data.resize
    crop = original.data.crop or (max(resized) if isinstance(resized, tuple) else resized) or WHOLE_PX
    read = sum(  # images only: not scales, and not noise drawn on the fly
        value.numel() * 4
        for field, value in batches[0].items()
        if torch.is_tensor(value) and value.dim() == 4 and value.shape[-1] > 1 and "normal" not in field
    )
    scale = (crop / side) ** 2
    trained = sum(p.numel() for phase in pipeline.phases for p in pipeline.trained_parameters(phase))
    return MethodCost(total * scale, trained, read * scale, crop)


def check_model(*, quick: bool) -> list[list[object]]:
    """Compare the model's step of two processes on this machine with the measured one.

    Here the reduction runs on the cores that compute, so that nothing overlaps: a step is the step of two processes
    that do not communicate, plus the reduction measured by itself.
    """
    rows: list[list[object]] = []
    for name in list(common.REALISTIC)[:1]:
        scaling = scaling_two_processes.measure(name, rounds=1 if quick else 3)
        independent_s, ddp_s = (
            common.median(scaling.step_s[mode]) for mode in ("two, without communication", "two, DDP")
        )
        expected_s = independent_s + scaling.reduction_s
        rows.append(
            [
                name,
                f"{1e3 * independent_s:.0f}",
                f"{1e3 * scaling.reduction_s:.1f}",
                f"{1e3 * expected_s:.0f}",
                f"{1e3 * ddp_s:.0f}",
                f"{100 * (expected_s / ddp_s - 1):+.0f} %",
            ]
        )
    return rows


def main() -> None:
    quick = common.parse_options(__doc__ or "").quick
    warnings.simplefilter("ignore")
    rows, sizes = [], []
    for name in list(common.SMALL)[:1] if quick else common.SMALL:
        cost = count_cost(name)
        gradient_bytes = 4 * cost.parameters
        batch = max(1, round(TARGET_STEP_S * MACHINE.flops_per_s / cost.flops))
        batch = min(batch, MAX_IMAGES_PER_GPU)
        one_gpu_s = step_s(batch * cost.flops, gradient_bytes, 1)
        for gpus in GPUS:
            seconds = step_s(batch * cost.flops, gradient_bytes, gpus)
            rate = gpus * batch / seconds
            sent_bytes = 2 * (gpus - 1) / gpus * gradient_bytes
            rows.append(
                [
                    name,
                    gpus,
                    batch,
                    f"{sent_bytes / 1e6:.0f}",
                    f"{1e3 * seconds:.1f}",
                    f"{one_gpu_s / seconds:.2f}",
                    f"{rate:,.0f}",
                    f"{rate * cost.read_bytes / 1e9:.2f}",
                    f"{gpus * batch:,}",
                ]
            )
        checkpoint_bytes = 4 * gradient_bytes  # weights, their moving average, and two moments
        sizes.append(
            [
                name,
                f"{cost.crop_px} px",
                f"{cost.flops / 1e9:.0f}",
                f"{cost.parameters / 1e6:.2f}",
                f"{checkpoint_bytes / 1e6:.0f}",
                f"{checkpoint_bytes / MACHINE.disk_bytes_per_s:.2f}",
            ]
        )
    common.print_table(
        ["configuration", "crop", "GFLOP per image", "million parameters", "checkpoint, MB", "writing it, s"], sizes
    )
    common.print_table(
        [
            "configuration",
            "GPUs",
            "images per GPU",
            "MB sent per step and GPU",
            "ms per step",
            "efficiency",
            "images/s",
            "GB/s read in total",
            "global batch",
        ],
        rows,
    )
    common.print_table(
        ["configuration", "without communication, ms", "reduction, ms", "model, ms", "measured, ms", "off"],
        check_model(quick=quick),
    )


if __name__ == "__main__":
    main()
