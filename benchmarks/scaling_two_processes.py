"""Two processes on two cores against one process on one core: what data parallel training costs here.

Each process has one thread and the same number of images a step. All ways take their turns within the same two
processes, seconds apart and in changing order: one trains while the other sleeps; both train without a word, which
shows what they lose to the machine (caches, memory) and not to communication; both train under DDP, in the launcher's
settings and in others.
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

PER_PROCESS = 2


@dataclass(frozen=True)
class Measured:
    """What `support/scaling_worker.py` found."""

    ways: dict[str, list[float]]
    """Seconds of a step in each round, by way."""
    parameters: int
    reduction_s: float
    """Of averaging all gradients, by itself."""


def measure(name: str, *, rounds: int) -> Measured:
    """One configuration of `common.REALISTIC` in all ways."""
    with common.temporary() as text:
        folder = Path(text)
        root = common.shards(folder / "data", side=64, **common.colours(name))
        out = folder / "result.json"
        worker = [
            str(Path(__file__).parent / "support" / "scaling_worker.py"),
            name,
            str(root),
            str(PER_PROCESS),
            str(rounds),
            str(out),
        ]
        ran = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *worker],
            env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        if ran.returncode:
            sys.exit(ran.stderr)
        return Measured(**json.loads(out.read_text()))


def main() -> None:
    quick = common.options(__doc__ or "").quick
    rows = []
    for name in common.REALISTIC:
        found = measure(name, rounds=1 if quick else 7)
        one = found.ways["one process"]
        for way, seconds in found.ways.items():
            images = PER_PROCESS * (1 if way == "one process" else 2) / common.middle(seconds)
            rows.append(
                [
                    name,
                    f"{found.parameters:,}",
                    way,
                    f"{1e3 * common.middle(seconds):.0f}",
                    common.spread(seconds),
                    f"{images:.1f}",
                    f"{common.times_faster(one, seconds):.2f}",
                ]
            )
    common.table(["configuration", "parameters", "way", "ms a step", "spread", "images/s", "efficiency"], rows)


if __name__ == "__main__":
    main()
