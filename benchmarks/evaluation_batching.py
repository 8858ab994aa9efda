"""Restoring whole images: batched by shape and in bfloat16, against one image at a time; tiles in batches.

The rival is the loop of most repositories: one image, one forward, one metric. Metrics are left out on both sides.
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
from shards.reading.loaders import EvalLoader
from shards.reading.shard_set import ShardSet

COUNT = 8


def whole(pipeline: Pipeline, read: DataConfig, split: ShardSet, batch: int, precision: str) -> Callable[[], object]:
    """All images of a split, so many at a time."""
    autocast = machine_precision.autocast(torch.device("cpu"), precision)

    def go() -> None:
        recipe = loading.evaluation_recipe(type(pipeline).needs(pipeline.config), read, split)
        with EvalLoader(split, np.arange(COUNT), recipe, batch) as batches, torch.no_grad(), autocast():
            for one in batches:
                pipeline.restore(one)

    return go


def main() -> None:
    quick = common.options(__doc__ or "").quick
    warnings.simplefilter("ignore")
    acceleration.make_accelerator(LoopConfig(threads=1))
    rounds, rows = (1 if quick else 9), []
    for name, side in (("pure_noise2noise", 64), ("pure_noise2noise", 160), ("tcfl", 64), ("tcfl", 160)):
        with common.temporary() as folder:
            root = common.shards(Path(folder), side=side, count=COUNT, **common.colours(name))
            config = common.configured(name, root, *common.SMALL[name], "data.crop=null")
            split = ShardSet.open(root / "val")
            pipeline = build.make_pipeline(config, split).eval()
            memory_layout.place(pipeline, torch.device("cpu"), config.loop)
            ways = {
                way: whole(pipeline, config.data, split, batch, precision)
                for way, batch, precision in (
                    ("one by one", 1, "no"),
                    ("batches of 4", 4, "no"),
                    ("batches of 4, bf16", 4, "bf16"),
                )
            }
            if side > 64 and not machine_precision.multiplies_bf16():
                del ways["batches of 4, bf16"]  # emulated: minutes, to see once more what 64 px show
            seconds = common.in_turns(ways, rounds=rounds)
        for way in ways:
            faster = common.times_faster(seconds["one by one"], seconds[way])
            rows.append(
                [
                    name,
                    f"{side} px",
                    way,
                    f"{COUNT / common.middle(seconds[way]):.1f}",
                    common.spread(seconds[way]),
                    f"{faster:.2f}",
                ]
            )
    image = {"noisy": torch.rand(1, 1, 256, 256)}
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 32, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(32, 1, 3, padding=1)
    ).eval()

    def tiles(batch: int) -> Callable[[], object]:
        @torch.no_grad()
        def go() -> None:
            tiled(lambda cut: {"noisy": network(cut["noisy"])}, image, tile=64, overlap=16, batch=batch)

        return go

    seconds = common.in_turns({"1": tiles(1), "4": tiles(4), "16": tiles(16)}, rounds=rounds)
    for count, values in seconds.items():
        rows.append(
            [
                "tiles of 64 px",
                "256 px",
                f"{count} tiles at a time",
                f"{1 / common.middle(values):.1f}",
                common.spread(values),
                f"{common.times_faster(seconds['1'], values):.2f}",
            ]
        )
    common.table(["what", "image", "how", "images/s", "spread", "times as fast"], rows)


if __name__ == "__main__":
    main()
