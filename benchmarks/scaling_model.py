"""What limits each method on 1, 8, 64 and 1,024 GPUs: a model of one step, checked against two processes here.

The arithmetic of a step is counted on the real networks; everything else is an assumption, stated in ASSUMED. Gradients
are float32 and are averaged by a ring while the backward pass still runs.
"""

import sys
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch

from benchmarks import scaling_two_processes
from benchmarks.support import common
from benchmarks.support import flops as _flops

GPUS = (1, 8, 64, 1024)


@dataclass(frozen=True)
class Assumed:
    """A machine; bandwidths are what a ring reaches, not what is printed on the box."""

    flops: float = 0.3 * 990e12
    """Of a step, per GPU: 30 % of an H100's dense bf16 peak, what convolutions of 64 channels and more may reach."""
    per_node: int = 8
    inside: float = 300e9
    """Bytes/s per GPU between GPUs of one node (NVLink)."""
    between: float = 40e9
    """Bytes/s per GPU between nodes (one 400 Gbit/s port each)."""
    hop_s: float = 10e-6
    """Delay of one hop; a reduction takes two times log2(n) of them."""
    backward: float = 2 / 3
    """Share of a step during which gradients can travel."""
    bucket: float = 25e6
    """Bytes of the last bucket, which nothing hides."""
    host_s: float = 1e-3
    """Of launching kernels and the loop, a step, hidden by nothing where kernels are short."""
    disk: float = 2e9
    """Bytes/s that a shared file system gives one writer."""


ASSUMED = Assumed()


def reduction_s(gradient_bytes: float, gpus: int, machine: Assumed = ASSUMED) -> float:
    """Seconds of a ring all-reduce over so many GPUs."""
    if gpus == 1:
        return 0.0
    bandwidth = machine.inside if gpus <= machine.per_node else machine.between
    return 2 * (gpus - 1) / gpus * gradient_bytes / bandwidth + 2 * machine.hop_s * max(1, (gpus - 1).bit_length())


def step_s(flops: float, gradient_bytes: float, gpus: int, machine: Assumed = ASSUMED) -> float:
    """Seconds of a step: arithmetic, what of the reduction it does not hide, and the host."""
    compute = flops / machine.flops
    whole, last = (reduction_s(size, gpus, machine) for size in (gradient_bytes, min(machine.bucket, gradient_bytes)))
    return compute + max(whole - machine.backward * compute, last) + machine.host_s


def counted(name: str) -> dict[str, float]:
    """Arithmetic of one image through all phases at the configuration's own crop; parameters; bytes of a sample."""
    side = 64
    with common.temporary() as folder:
        root = common.shards(Path(folder), side=side, count=2, **common.colours(name))
        vgg = common.SMALL[name] if name == "spectroformer" else []
        original = common.configured(name, root, *vgg)
        config = common.configured(name, root, *vgg, f"data.crop={side}", "data.batch_size=1", "loop.accumulate=1")
        pipeline, batches = common.built(config)
        carry: dict[str, torch.Tensor] = {}

        def backward(phase: str) -> None:
            step = pipeline.loss(phase, batches[0], carry)
            step.loss.backward()
            carry.update(step.carry)

        total = sum(_flops.count(partial(backward, phase)) for phase in pipeline.phases)
    crop = original.data.crop or 256
    read = sum(
        v.numel() * 4
        for k, v in batches[0].items()
        if torch.is_tensor(v) and v.dim() == 4 and v.shape[-1] > 1 and "normal" not in k
    )
    scale = (crop / side) ** 2
    trained = sum(p.numel() for phase in pipeline.phases for p in pipeline.trained_parameters(phase))
    return {"flops": total * scale, "parameters": trained, "bytes": read * scale, "crop": crop}


def check(quick: bool) -> list[list[object]]:
    """The model's two-process step on this machine against the measured one.

    Here the reduction runs on the cores that compute, so that nothing is hidden: step = the step of two processes side
    by side + the reduction measured by itself.
    """
    rows: list[list[object]] = []
    for name in list(common.REALISTIC)[:1]:
        found = scaling_two_processes.measure(name, rounds=1 if quick else 3)
        apart, together = (common.middle(found.ways[way]) for way in ("two, without a word", "two, DDP"))
        expected = apart + found.reduction_s
        rows.append(
            [
                name,
                f"{1e3 * apart:.0f}",
                f"{1e3 * found.reduction_s:.1f}",
                f"{1e3 * expected:.0f}",
                f"{1e3 * together:.0f}",
                f"{100 * (expected / together - 1):+.0f} %",
            ]
        )
    return rows


def main() -> None:
    quick = common.options(__doc__ or "").quick
    warnings.simplefilter("ignore")
    rows, sizes = [], []
    for name in list(common.SMALL)[:1] if quick else common.SMALL:
        one = counted(name)
        gradient = 4 * one["parameters"]
        batch = max(1, round(0.05 * ASSUMED.flops / one["flops"]))  # images a GPU takes for a step of 50 ms, at most 64
        batch = min(batch, 64)
        alone = step_s(batch * one["flops"], gradient, 1)
        for gpus in GPUS:
            seconds = step_s(batch * one["flops"], gradient, gpus)
            rate = gpus * batch / seconds
            sent = 2 * (gpus - 1) / gpus * gradient
            rows.append(
                [
                    name,
                    gpus,
                    batch,
                    f"{sent / 1e6:.0f}",
                    f"{1e3 * seconds:.1f}",
                    f"{alone / seconds:.2f}",
                    f"{rate:,.0f}",
                    f"{rate * one['bytes'] / 1e9:.2f}",
                    f"{gpus * batch:,}",
                ]
            )
        saved = 4 * gradient
        sizes.append(
            [
                name,
                f"{int(one['crop'])} px",
                f"{one['flops'] / 1e9:.0f}",
                f"{one['parameters'] / 1e6:.2f}",
                f"{saved / 1e6:.0f}",
                f"{saved / ASSUMED.disk:.2f}",
            ]
        )
    common.table(
        ["configuration", "crop", "GFLOP an image", "million parameters", "checkpoint, MB", "writing it, s"], sizes
    )
    common.table(
        [
            "configuration",
            "GPUs",
            "images a GPU",
            "MB sent a step and GPU",
            "ms a step",
            "efficiency",
            "images/s",
            "GB/s read, all",
            "global batch",
        ],
        rows,
    )
    common.table(
        ["configuration", "side by side, ms", "reduction, ms", "model, ms", "measured, ms", "off"], check(quick)
    )


if __name__ == "__main__":
    main()
