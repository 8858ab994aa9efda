"""Two processes on two cores against one process on one core: what data-parallel training costs on this machine.

Each process has one thread and the same number of images per step. The same two processes run every mode, seconds apart
and in changing order: one trains while the other sleeps; both train without communicating, which shows what they lose
to shared caches and memory; and both train under DDP, with the launcher's settings and with others.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.support import common

IMAGES_PER_PROCESS = 2


@dataclass(frozen=True)
class Scaling:
    """The results of `support/scaling_worker.py`."""

    step_s: dict[str, list[float]]
    """Mode -> seconds of a step in each round."""
    parameters: int
    reduction_s: float
    """Seconds of averaging all gradients, measured by itself."""


def measure(name: str, *, rounds: int) -> Scaling:
    """Measure one configuration of `common.REALISTIC` in all modes."""
    with common.temporary_folder() as temporary:
        folder = Path(temporary)
        root = common.write_shards(folder / "data", side=64, **common.image_kind(name))
        out = folder / "result.json"
        worker = [
            str(Path(__file__).parent / "support" / "scaling_worker.py"),
            name,
            str(root),
            str(IMAGES_PER_PROCESS),
            str(rounds),
            str(out),
        ]
        result = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *worker],
            env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        if result.returncode:
            sys.exit(result.stderr)
        return Scaling(**json.loads(out.read_text()))


def main() -> None:
    quick = common.parse_options(__doc__ or "").quick
    rows = []
    for name in common.REALISTIC:
        scaling = measure(name, rounds=1 if quick else 7)
        one_process = scaling.step_s["one process"]
        for mode, seconds in scaling.step_s.items():
            images_per_s = IMAGES_PER_PROCESS * (1 if mode == "one process" else 2) / common.median(seconds)
            rows.append(
                [
                    name,
                    f"{scaling.parameters:,}",
                    mode,
                    f"{1e3 * common.median(seconds):.0f}",
                    common.spread(seconds),
                    f"{images_per_s:.1f}",
                    f"{common.speedup(one_process, seconds):.2f}",
                ]
            )
    common.print_table(
        ["configuration", "parameters", "variant", "ms per step", "spread", "images/s", "efficiency"], rows
    )


if __name__ == "__main__":
    main()
