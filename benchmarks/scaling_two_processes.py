"""Two processes on two cores against one process on one core: what data parallel training costs here.

Each process has one thread and the same number of images a step. Beside one process alone and two that train together,
two that train side by side without a word: what they lose is the machine's (caches, memory), not communication's.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks import _common as common

PER_PROCESS = 2
WAYS = {"one process": (1, "together"), "two, without a word": (2, "alone"), "two, DDP": (2, "together")}


def measured(name: str, root: Path, folder: Path, processes: int, way: str, seconds: float) -> dict[str, float]:
    """Median seconds of a step, and what was trained."""
    out = folder / "result.json"
    worker = [str(Path(__file__).with_name("_scaling_worker.py")), name, str(root), str(PER_PROCESS), str(seconds),
              str(out), way]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *(torchrun if processes > 1 else []), *worker], check=True, env=environment,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return json.loads(out.read_text())


def measure(name: str, *, seconds: float, rounds: int) -> dict[str, dict[str, float]]:
    """Medians over rounds of every way, with `parameters`."""
    with common.temporary() as text:
        folder = Path(text)
        root = common.shards(folder / "data", side=64, **common.colours(name))
        found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(rounds):
            for way, (processes, kind) in WAYS.items():
                found[way].append(measured(name, root, folder, processes, kind, seconds))
    return {way: {**rows[0], "step_s": statistics.median(row["step_s"] for row in rows)} for way, rows in found.items()}


def main() -> None:
    quick = common.options(__doc__ or "").quick
    rows = []
    for name in common.REALISTIC:
        found = measure(name, seconds=1 if quick else 6, rounds=1 if quick else 3)
        one = found["one process"]["step_s"]
        for way, result in found.items():
            count = WAYS[way][0]
            rows.append([name, f"{int(result['parameters']):,}", way, f"{1e3 * result['step_s']:.0f}",
                         f"{count * PER_PROCESS / result['step_s']:.1f}", f"{one / result['step_s']:.2f}"])
    common.table(["configuration", "parameters", "way", "ms a step", "images/s", "efficiency"], rows)


if __name__ == "__main__":
    main()
