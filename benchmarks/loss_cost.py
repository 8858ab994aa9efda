"""What each loss of Spectroformer's training costs: parameters, memory and time.

Each row is measured in a process of its own: by how much two passes, forward and backward, raise its peak resident set
size, and the processor time of the second one. Images are as in the loss's document: four of 256 x 256 in colour.
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
from quell.configs import registry

TRUNK: dict[str, object] = {"weights": None, "random_trunk": True}
LOSSES: dict[str, dict[str, object]] = {
    "charbonnier": {"eps": 1e-3},
    "laplacian": {},
    "msssim": {"scales": 5},
    "vgg": TRUNK,
    "vgg16": TRUNK,
}
"""Losses and their arguments; the time and memory of a trunk do not depend on its weights."""


def measure(name: str, side: int) -> dict[str, float]:
    """Parameters, MiB and ms of one loss; in a fresh process, whose peak never falls."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    restored = torch.rand(4, 3, side, side, requires_grad=True)
    target = torch.rand(4, 3, side, side)
    module = registry.build("losses", {"name": name, **LOSSES[name]}, channels=3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        began = time.process_time()
        module(restored, target).backward()
        seconds = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = sum(parameter.numel() for parameter in module.parameters())
    return {"parameters": count, "mib": (peak - before) / 1024, "ms": seconds * 1000}


def main() -> None:
    """Measure every row and print the table."""
    if len(sys.argv) > 3 and sys.argv[1] == "--measure":
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
        return
    options = common.parse_options(__doc__ or "")
    side = 192 if options.quick else 256
    rows = []
    for name in LOSSES:
        command = [sys.executable, __file__, "--measure", name, str(side)]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(ran.stdout.splitlines()[-1])
        rows.append([name, f"{found['parameters']:,.0f}", f"{found['mib']:,.0f}", f"{found['ms']:,.0f}"])
    common.print_table(["what", "parameters", "MiB", "ms (one core)"], rows)


if __name__ == "__main__":
    main()
