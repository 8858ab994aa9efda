"""How long a small U-Net's training waits for its batches, with every transform on.

  python benchmarks/data_wait.py [--steps 12]

Crop, flip, phase, median and noise on float32 320 x 320 pairs; one training thread and the loader's own, in one
process. The first step is left out: nothing can be ready before it.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

from configs.fields import Source
from models.unet import UNet
from shards.building.writer import write_split
from shards.reading.loaders import Loader
from shards.reading.order import SampleOrder
from shards.reading.recipe import Recipe
from shards.reading.shard_set import ShardSet

PAIRS, BATCH, WIDTH = 96, 4, 16
FULL = Recipe(
    {"pd": Source(), "pdfs": Source()},
    {"pd_normal": "pd", "pdfs_normal": "pdfs"},
    crop=256,
    flip=True,
    phase=True,
    normalise="median",
)


def main() -> int:
    """Train, and print how much of each step was waiting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="quell-wait-") as folder:
        write_split(
            Path(folder),
            (
                {
                    "__key__": f"k{i:05d}",
                    **{f"{name}.npy": random.random((320, 320), dtype=np.float32) for name in FULL.fields},
                }
                for i in range(PAIRS)
            ),
            name="pairs",
            meta={},
        )
        shards = ShardSet.open(folder)
        total, waited = train(shards, args.steps)
        shards.files.close()
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"load {load} on {os.cpu_count()} cores; U-Net of width {WIDTH}, batches of {BATCH} crops of {FULL.crop}")
    print(
        f"{total / args.steps * 1e3:.0f} ms a step, of which {waited / args.steps * 1e3:.2f} ms waiting for data: "
        f"{100 * waited / total:.2f} %"
    )
    return 0


def train(shards: ShardSet, steps: int) -> tuple[float, float]:
    """Seconds of so many steps, and of them those spent waiting for a batch."""
    network = UNet(width=WIDTH)
    optimizer = torch.optim.AdamW(network.parameters())
    began = waited = 0.0
    with Loader(shards, SampleOrder(len(shards), BATCH, 1), FULL, steps=steps + 1) as loader:
        for number, (batch,) in enumerate(loader):
            loss = (network(batch["pd"] + 0.1 * batch["pd_normal"]) - batch["pdfs"]).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if number == 0:
                began, waited = time.perf_counter(), loader.wait_s
        return time.perf_counter() - began, loader.wait_s - waited


if __name__ == "__main__":
    sys.exit(main())
