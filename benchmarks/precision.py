"""Fifty steps of every method in bfloat16 against the same fifty in float32: how far the losses part, what is skipped.

The same weights, samples and noise; weights and moments stay float32, autocast runs what it may in bfloat16, and the
islands (FFT, MS-SSIM, adversarial losses, norms) run in float32 where they live.
"""

import logging
import sys
import warnings
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch

from benchmarks.support import common
from configs.schema import RunConfig
from launch.machine import acceleration, memory_layout
from launch.training import build
from launch.training.phases import train_step

WINDOW = 10
"""Steps in the running mean of which the curves are compared."""

SIDE, BATCH = 40, 2
"""Of the images in pixels, and images a step: most processors emulate bfloat16, ten to thirty times slower."""

LARGE = {"spectroformer": (32, 1)}
"""The same of the one network that is not made small."""


def losses(config: RunConfig, precision: str, steps: int) -> tuple[dict[str, torch.Tensor], int]:
    """Each phase's loss at every step where it ran, and how many steps were skipped."""
    loop = config.loop.model_copy(update={"precision": precision})
    config = config.model_copy(update={"loop": loop})
    accelerator = acceleration.make_accelerator(loop)
    try:
        pipeline, batches = common.built(config)
        memory_layout.place(pipeline, accelerator.device, loop)
        phases = build.make_phases(accelerator, pipeline, config)
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        found: dict[str, list[torch.Tensor]] = {}
        skipped = 0
        for step in range(steps):
            pipeline.on_step_start(step, step / steps)
            log = train_step(phases, pipeline, step, batches, scaler)
            for name, value in log.items():
                if name.startswith("loss_"):
                    found.setdefault(name, []).append(value)
                skipped += int(value) if name.startswith("skipped_") else 0
        return {name: torch.stack(values) for name, values in found.items()}, skipped
    finally:
        acceleration.close(accelerator)


def parted(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference of the running means, relative to the largest mean."""
    window = min(WINDOW, len(one))
    means = [values.unfold(0, window, 1).mean(1) for values in (one, other)]
    return float((means[0] - means[1]).abs().max() / means[0].abs().max())


def main() -> None:
    options = common.options(__doc__ or "")
    quick = options.quick
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    steps, rows = (3 if quick else 50), []
    for name in options.only:
        with common.temporary() as folder:
            side, batch = LARGE.get(name, (SIDE, BATCH))
            root = common.shards(Path(folder), side=side, **common.colours(name))
            config = common.configured(
                name, root, *common.SMALL[name], f"data.crop={side}", f"data.batch_size={batch}", "loop.accumulate=1"
            )
            (full, _), (low, skipped) = (losses(config, precision, steps) for precision in ("no", "bf16"))
        for phase, curve in full.items():
            finite = "yes" if bool(low[phase].isfinite().all()) else "NO"
            rows.append(
                [
                    config.pipeline.name,
                    phase.removeprefix("loss_"),
                    float(curve[0]),
                    float(curve[-1]),
                    float(low[phase][-1]),
                    f"{100 * parted(curve, low[phase]):.2g} %",
                    finite,
                    skipped,
                ]
            )
    header = ["method", "phase", "first loss", f"loss {steps}, float32", "in bf16", "apart", "finite", "skipped"]
    common.table(header, rows)


if __name__ == "__main__":
    main()
