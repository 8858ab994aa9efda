"""How long the training of a small U-Net waits for its batches, with every transform enabled.

  python benchmarks/data_wait.py [--steps 12]

Crop, flip, phase, median normalisation and noise on float32 320 x 320 pairs; one training thread and the loader's own
thread, in one process. The first step is not counted, because no batch can be ready before it.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch

from benchmarks.support import common
from benchmarks.support.pairs import write_pairs
from quell.configs.fields import Source
from quell.launch.data.finishing import Finisher
from quell.models.unet import UNet
from quell.shards.reading.loaders import Loader
from quell.shards.reading.order import SampleOrder
from quell.shards.reading.recipe import Recipe
from quell.shards.reading.shard_set import ShardSet

PAIRS, BATCH, WIDTH = 96, 4, 16
RECIPE = Recipe(
    {"pd": Source(), "pdfs": Source()},
    {"pd_normal": "pd", "pdfs_normal": "pdfs"},
    crop=256,
    flip=True,
    phase=True,
    normalise="median",
)
"""Every transform that a configuration can ask for."""


def main() -> int:
    """Train, and print how much of each step was spent waiting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="quell-wait-") as folder:
        shards = write_pairs(Path(folder), PAIRS)
        total_s, waited_s = train(shards, args.steps)
        shards.files.close()
    print(f"{common.load_average()}; U-Net of width {WIDTH}, batches of {BATCH} crops of {RECIPE.crop}")
    print(
        f"{total_s / args.steps * 1e3:.0f} ms a step, of which {waited_s / args.steps * 1e3:.2f} ms waiting for data: "
        f"{100 * waited_s / total_s:.2f} %"
    )
    return 0


def train(shards: ShardSet, steps: int) -> tuple[float, float]:
    """Train this many steps; returns the seconds they took, and how many of them were spent waiting for batches."""
    network = UNet(width=WIDTH)
    optimizer = torch.optim.AdamW(network.parameters())
    finish = Finisher(RECIPE, shards)
    start = waited_s = 0.0
    with Loader(shards, SampleOrder(len(shards), BATCH, 1), RECIPE, steps=steps + 1) as loader:
        for number, (raw,) in enumerate(loader):
            batch = finish(raw)
            loss = (network(batch["pd"] + 0.1 * batch["pd_normal"]) - batch["pdfs"]).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if number == 0:
                start, waited_s = time.perf_counter(), loader.wait_s
        return time.perf_counter() - start, loader.wait_s - waited_s


if __name__ == "__main__":
    sys.exit(main())
