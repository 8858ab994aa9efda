"""Peak memory of a training step of each method and precision, and what recomputing activations saves and costs.

Each row is measured in a process of its own: by how much two steps raise its peak resident set size.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TypedDict

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch

from benchmarks.support import common
from quell.launch.machine import acceleration
from quell.launch.machine import precision as machine_precision

RECOMPUTING = "pipeline.network.checkpointing=true"

LARGE = "pipeline.network={name: unet, width: 64, norm: group, checkpointing: %s}"
"""A U-Net of 21.9 million parameters."""


class Peak(TypedDict):
    """Memory and time of a training step."""

    mib: float
    """Above the memory of the pipeline and its batch."""
    step_s: float
    """Processor time of the second step."""


def measure_peak(name: str, precision: str, overrides: list[str]) -> Peak:
    """Train two steps in this process, which must be a fresh one: the peak of a process never falls."""
    torch.set_num_threads(1)
    side = 192 if "unet" in str(overrides) else 96
    with common.temporary_folder() as folder:
        root = common.write_shards(Path(folder), side=side, count=4, **common.image_kind(name))
        config = common.load_config(
            name,
            root,
            *common.SMALL[name],
            f"data.crop={side}",
            "data.batch_size=2",
            "loop.accumulate=1",
            f"loop.precision={precision}",
            *overrides,
        )
        step = common.TrainingStep.build(config, acceleration.make_accelerator(config.loop))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times = []
        for _ in range(2):
            start = time.process_time()
            step()
            times.append(time.process_time() - start)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"mib": (after - before) / 1024, "step_s": times[-1]}


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure_peak(sys.argv[2], sys.argv[3], sys.argv[4:])))
        return
    quick = common.parse_options(__doc__ or "").quick
    large = [
        ("spectroformer", []),
        ("spectroformer", [RECOMPUTING]),
        ("supervised", [LARGE % "false"]),
        ("supervised", [LARGE % "true"]),
    ]
    small: list[tuple[str, list[str]]] = [(name, []) for name in common.SMALL if name != "spectroformer"]
    # where bfloat16 is emulated, the large networks would take minutes
    in_bf16 = small + large if machine_precision.multiplies_bf16() else small
    cases = [(name, "no", overrides) for name, overrides in small + large]
    cases += [(name, "bf16", overrides) for name, overrides in in_bf16]
    rows = []
    for name, precision, overrides in cases[:1] if quick else cases:
        command = [sys.executable, __file__, "--one", name, precision, *overrides]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peak: Peak = json.loads(output.splitlines()[-1])
        label = name + (", large U-Net, 192 px" if "unet" in str(overrides) else "")
        label += ", recomputing" if "true" in str(overrides) else ""
        rows.append([label, precision, f"{peak['mib']:.0f}", f"{1e3 * peak['step_s']:.0f}"])
    common.print_table(["method", "precision", "peak of a step, MiB", "ms per step"], rows)


if __name__ == "__main__":
    main()
