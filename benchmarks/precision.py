"""Fifty steps of each method in bfloat16 and in float32: how far the losses diverge, and how many steps are skipped.

Both have the same weights, samples and noise. Weights and moments stay in float32, autocast chooses what runs in
bfloat16, and FFTs, MS-SSIM, adversarial losses and norms always run in float32.
"""

import logging
import sys
import warnings
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch

from benchmarks.support import common
from quell.configs.schema import RunConfig
from quell.launch.machine import acceleration

WINDOW = 10
"""Steps in the running mean by which the loss curves are compared."""

SIDE_PX, BATCH = 40, 2
"""Image size and images per step, small because most processors emulate bfloat16, ten to thirty times slower."""

SMALLER_INPUT = {"spectroformer": (32, 1)}
"""The same for the network whose width cannot be reduced."""


def losses(config: RunConfig, precision: str, steps: int) -> tuple[dict[str, torch.Tensor], int]:
    """Train; returns each phase's loss at every step in which it was active, and how many steps were skipped."""
    loop = config.loop.model_copy(update={"precision": precision})
    config = config.model_copy(update={"loop": loop})
    accelerator = acceleration.make_accelerator(loop)
    try:
        train_step = common.TrainingStep.build(config, accelerator)
        curves: dict[str, list[torch.Tensor]] = {}
        skipped = 0
        for step in range(steps):
            train_step.pipeline.on_step_start(step, step / steps)
            for name, value in train_step(step).items():
                if name.startswith("loss_"):
                    curves.setdefault(name, []).append(value)
                skipped += int(value) if name.startswith("skipped_") else 0
        return {name: torch.stack(values) for name, values in curves.items()}, skipped
    finally:
        acceleration.close(accelerator)


def divergence(reference: torch.Tensor, curve: torch.Tensor) -> float:
    """Largest difference of the running means of two loss curves, relative to the reference's largest."""
    window = min(WINDOW, len(reference))
    expected, actual = (values.unfold(0, window, 1).mean(1) for values in (reference, curve))
    return float((expected - actual).abs().max() / expected.abs().max())


def main() -> None:
    options = common.parse_options(__doc__ or "")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    steps = 3 if options.quick else 50
    rows = []
    for name in options.only:
        with common.temporary_folder() as folder:
            side, batch = SMALLER_INPUT.get(name, (SIDE_PX, BATCH))
            root = common.write_shards(Path(folder), side=side, **common.image_kind(name))
            config = common.load_config(
                name, root, *common.SMALL[name], f"data.crop={side}", f"data.batch_size={batch}", "loop.accumulate=1"
            )
            float32, _ = losses(config, "no", steps)
            bf16, skipped = losses(config, "bf16", steps)
        for phase, curve in float32.items():
            finite = "yes" if bool(bf16[phase].isfinite().all()) else "NO"
            rows.append(
                [
                    config.pipeline.name,
                    phase.removeprefix("loss_"),
                    float(curve[0]),
                    float(curve[-1]),
                    float(bf16[phase][-1]),
                    f"{100 * divergence(curve, bf16[phase]):.2g} %",
                    finite,
                    skipped,
                ]
            )
    header = ["method", "phase", "first loss", f"loss {steps}, float32", "in bf16", "deviation", "finite", "skipped"]
    common.print_table(header, rows)


if __name__ == "__main__":
    main()
