"""Restoring full-size images in batches of one shape and in bfloat16, against one at a time; and tiles in batches.

One at a time is what most repositories do: one image, one forward pass, one metric. No metrics are computed here.
"""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import torch

from benchmarks.support import common
from configs.schema import DataConfig, LoopConfig
from launch.data import loading
from launch.inference.tiling import tiled
from launch.machine import acceleration, memory_layout
from launch.machine import precision as machine_precision
from launch.training import build
from pipelines.base import Pipeline
from shards.reading.shard_set import ShardSet

IMAGES = 8

VARIANTS = {"one by one": (1, "no"), "batches of 4": (4, "no"), "batches of 4, bf16": (4, "bf16")}
"""Label -> images per batch, precision."""


def restore_split(
    pipeline: Pipeline, data: DataConfig, split: ShardSet, batch: int, precision: str
) -> Callable[[], object]:
    """A function that reads and restores all images of a split."""
    autocast = machine_precision.autocast(torch.device("cpu"), precision)
    recipe = loading.evaluation_recipe(type(pipeline).needs(pipeline.config), data, split)

    def run() -> None:
        whole = loading.whole_images(split, np.arange(IMAGES), recipe, batch)
        with whole as batches, torch.no_grad(), autocast():
            for images in batches:
                pipeline.restore(images)

    return run


def restore_tiles(batch: int) -> Callable[[], object]:
    """A function that restores one image of 256 px in tiles of 64 px, this many tiles at a time."""
    image = {"noisy": torch.rand(1, 1, 256, 256)}
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 32, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(32, 1, 3, padding=1)
    ).eval()

    @torch.no_grad()
    def run() -> None:
        tiled(lambda tiles: {"noisy": network(tiles["noisy"])}, image, tile=64, overlap=16, batch=batch)

    return run


def main() -> None:
    quick = common.parse_options(__doc__ or "").quick
    warnings.simplefilter("ignore")
    acceleration.make_accelerator(LoopConfig(threads=1))
    rounds = 1 if quick else 9
    rows = []
    for name, side in (("pure_noise2noise", 64), ("pure_noise2noise", 160), ("tcfl", 64), ("tcfl", 160)):
        with common.temporary_folder() as folder:
            root = common.write_shards(Path(folder), side=side, count=IMAGES, **common.image_kind(name))
            config = common.load_config(name, root, *common.SMALL[name], "data.crop=null")
            split = ShardSet.open(root / "val")
            pipeline = build.make_pipeline(config, split).eval()
            memory_layout.place(pipeline, torch.device("cpu"), config.loop)
            candidates = {
                label: restore_split(pipeline, config.data, split, batch, precision)
                for label, (batch, precision) in VARIANTS.items()
            }
            if side > 64 and not machine_precision.multiplies_bf16():
                del candidates["batches of 4, bf16"]  # emulated: takes minutes, and shows what 64 px have shown
            seconds = common.time_interleaved(candidates, rounds=rounds)
        for label, values in seconds.items():
            rate = f"{IMAGES / common.median(values):.1f}"
            speedup = f"{common.speedup(seconds['one by one'], values):.2f}"
            rows.append([name, f"{side} px", label, rate, common.spread(values), speedup])
    seconds = common.time_interleaved({str(batch): restore_tiles(batch) for batch in (1, 4, 16)}, rounds=rounds)
    for batch, values in seconds.items():
        rate, speedup = f"{1 / common.median(values):.1f}", f"{common.speedup(seconds['1'], values):.2f}"
        rows.append(["tiles of 64 px", "256 px", f"{batch} at a time", rate, common.spread(values), speedup])
    common.print_table(["method", "image", "batching", "images/s", "spread", "speed-up"], rows)


if __name__ == "__main__":
    main()
