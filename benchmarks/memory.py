"""Peak memory of one training step of each method and precision, and what recomputing activations saves and costs.

Each row is a process of its own: the growth of its peak resident size from before the first step to after the second.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch

from benchmarks.support import common
from launch.machine import acceleration, memory_layout
from launch.machine import precision as machine_precision
from launch.training import build
from launch.training.phases import train_step

CHECKPOINTED = "pipeline.network.checkpointing=true"

LARGE = "pipeline.network={name: unet, width: 64, norm: group, checkpointing: %s}"
"""The U-Net of 21.9 million parameters."""


def peak(name: str, precision: str, more: list[str]) -> dict[str, float]:
    """MiB above the built pipeline and its batch, and the seconds of the second step; run in a process of its own."""
    torch.set_num_threads(1)
    side = 192 if "unet" in str(more) else 96
    with common.temporary() as folder:
        root = common.shards(Path(folder), side=side, count=4, **common.colours(name))
        config = common.configured(
            name,
            root,
            *common.SMALL[name],
            f"data.crop={side}",
            "data.batch_size=2",
            "loop.accumulate=1",
            f"loop.precision={precision}",
            *more,
        )
        accelerator = acceleration.make_accelerator(config.loop)
        pipeline, batches = common.built(config)
        memory_layout.place(pipeline, accelerator.device, config.loop)
        phases = build.make_phases(accelerator, pipeline, config)
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times = []
        for _ in range(2):
            began = time.process_time()
            train_step(phases, pipeline, 0, batches, scaler)
            times.append(time.process_time() - began)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"mib": (after - before) / 1024, "step_s": times[-1]}


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(peak(sys.argv[2], sys.argv[3], sys.argv[4:])))
        return
    quick = common.options(__doc__ or "").quick
    large = [
        ("spectroformer", []),
        ("spectroformer", [CHECKPOINTED]),
        ("supervised", [LARGE % "false"]),
        ("supervised", [LARGE % "true"]),
    ]
    small: list[tuple[str, list[str]]] = [(name, []) for name in common.SMALL if name != "spectroformer"]
    low = small + large if machine_precision.multiplies_bf16() else small  # emulated, the large ones take minutes
    wanted = [(name, "no", more) for name, more in small + large] + [(name, "bf16", more) for name, more in low]
    rows = []
    for name, precision, more in wanted[:1] if quick else wanted:
        said = subprocess.run(
            [sys.executable, __file__, "--one", name, precision, *more], check=True, capture_output=True, text=True
        ).stdout
        found = json.loads(said.splitlines()[-1])
        label = name + (", large U-Net, 192 px" if "unet" in str(more) else "")
        label += ", recomputing" if "true" in str(more) else ""
        rows.append([label, precision, f"{found['mib']:.0f}", f"{1e3 * found['step_s']:.0f}"])
    common.table(["method", "precision", "peak of a step, MiB", "ms a step"], rows)


if __name__ == "__main__":
    main()
