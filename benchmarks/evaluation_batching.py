"""Evaluation in batches against one image at a time: measuring images of 320 px, restoring full images and tiles.

One image, one forward pass, one metric on arrays is what most repositories do. The first table also compares values.
"""

import sys
import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import torch
from torch import Tensor

from benchmarks.support import common, image_by_image
from quell.configs.fields import Needs
from quell.configs.schema import DataConfig, LoopConfig
from quell.launch.data import loading
from quell.launch.evaluation import evaluator
from quell.launch.evaluation.blind_checks import BlindChecks
from quell.launch.inference.tiling import tiled
from quell.launch.machine import acceleration, memory_layout
from quell.launch.machine import precision as machine_precision
from quell.launch.training import build
from quell.pipelines.base import Batch, Pipeline
from quell.shards.reading.shard_set import ShardSet

IMAGES = 8

MEASURED_PX = 320
"""Side of the images whose metrics are computed."""

VARIANTS = {"one by one": (1, "no"), "batches of 4": (4, "no"), "batches of 4, bf16": (4, "bf16")}
"""Label -> images per batch, precision."""


class Subject(NamedTuple):
    """A method with small networks, and images that it can restore."""

    pipeline: Pipeline
    data: DataConfig
    split: ShardSet

    @classmethod
    def make(cls, name: str, folder: str, side: int) -> "Subject":
        """The method of this configuration, and IMAGES images of `side` pixels, which are written to a folder."""
        root = common.write_shards(Path(folder), side=side, count=IMAGES, **common.image_kind(name))
        config = common.load_config(name, root, *common.SMALL[name], "data.crop=null")
        split = ShardSet.open(root / "val")
        pipeline = build.make_pipeline(config, split).eval()
        memory_layout.place(pipeline, torch.device("cpu"), config.loop)
        return cls(pipeline, config.data, split)

    @property
    def needs(self) -> Needs:
        """What the method asks of the data."""
        return type(self.pipeline).needs(self.pipeline.config)

    def batches(self, size: int) -> AbstractContextManager[Iterable[Batch]]:
        """All images, read and finished in batches of so many."""
        recipe = loading.evaluation_recipe(self.needs, self.data, self.split)
        return loading.whole_images(self.split, np.arange(IMAGES), recipe, size)


def restore_split(subject: Subject, batch: int, precision: str) -> Callable[[], object]:
    """A function that reads and restores all images of a split."""
    autocast = machine_precision.autocast(torch.device("cpu"), precision)

    def run() -> None:
        with subject.batches(batch) as batches, torch.no_grad(), autocast():
            for images in batches:
                subject.pipeline.restore(images)

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


def measuring(name: str, *, with_network: bool, rounds: int) -> list[list[object]]:
    """Rows of the first table: PSNR, SSIM, RMSE and the checks without clean images of one method's outputs.

    Args:
        name: The method; its networks are small.
        with_network: Also read and restore the images; otherwise restored images are given.
        rounds: Repetitions.
    """
    with common.temporary_folder() as folder:
        subject = Subject.make(name, folder, MEASURED_PX)
        pipeline, data = subject.pipeline, subject.data
        checks = BlindChecks.of_split(pipeline, subject.split, subject.needs, data)
        images = loading.load_whole_images(subject.split, subject.needs, data, IMAGES)
        if not with_network:
            give_restored(pipeline)

        def batches() -> AbstractContextManager[Iterable[Batch]]:
            return subject.batches(data.eval_batch_size) if with_network else nullcontext(images)

        def by_image() -> list[image_by_image.Values]:
            with batches() as given:
                return image_by_image.evaluate(pipeline, given, 1.0, checks.models())

        def by_batch(earlier: evaluator.EarlierValues | None = None) -> list[image_by_image.Values]:
            with batches() as given:
                rows = evaluator.evaluate_batches(
                    pipeline,
                    given,
                    data_range=1.0,
                    device=torch.device("cpu"),
                    autocast=nullcontext,
                    on_batch=checks,
                    earlier=earlier,
                )
                return [row.values for row in rows]

        difference = image_by_image.largest_difference(by_image(), by_batch())
        candidates: dict[str, Callable[[], object]] = {
            "image by image": by_image,
            "in batches": by_batch,
            "in batches, later in a run": partial(by_batch, {}),
        }
        seconds = common.time_interleaved(candidates, rounds=rounds)
    label = "read, restore, measure" if with_network else "measure"
    return [
        [
            name,
            label,
            how,
            f"{1e3 * common.median(values) / IMAGES:.1f}",
            common.spread(values),
            f"{common.speedup(seconds['image by image'], values):.2f}",
            f"{difference:.0e}" if how == "in batches" else "",
        ]
        for how, values in seconds.items()
    ]


def give_restored(pipeline: Pipeline) -> None:
    """Let a pipeline restore without a network, and measure nothing itself."""

    def restore(batch: Batch) -> dict[str, Tensor]:
        return {name: 0.9 * batch[output.noisy] for name, output in pipeline.outputs.items()}

    pipeline.restore, pipeline.diagnostics = restore, lambda batch, restored: {}  # type: ignore[method-assign]


def restoring(name: str, side: int, rounds: int) -> list[list[object]]:
    """Rows of the second table: reading and restoring images of `side` pixels by one method."""
    variants = dict(VARIANTS)
    if side > 64 and not machine_precision.multiplies_bf16():
        del variants["batches of 4, bf16"]  # emulated: takes minutes, and shows what 64 px have shown
    with common.temporary_folder() as folder:
        subject = Subject.make(name, folder, side)
        candidates = {how: restore_split(subject, *variant) for how, variant in variants.items()}
        seconds = common.time_interleaved(candidates, rounds=rounds)
    return [
        [
            name,
            f"{side} px",
            how,
            f"{IMAGES / common.median(values):.1f}",
            common.spread(values),
            f"{common.speedup(seconds['one by one'], values):.2f}",
        ]
        for how, values in seconds.items()
    ]


def main() -> None:
    quick = common.parse_options(__doc__ or "").quick
    warnings.simplefilter("ignore")
    acceleration.make_accelerator(LoopConfig(threads=1))
    rounds = 1 if quick else 9
    rows: list[list[object]] = []
    for name in ("supervised", "pure_noise2noise"):
        for with_network in (False, True):
            rows += measuring(name, with_network=with_network, rounds=min(rounds, 5))
    header = ["method", f"{MEASURED_PX} px", "how", "ms/image", "spread", "speed-up", "largest difference"]
    common.print_table(header, rows)
    rows = []
    for name, side in (("pure_noise2noise", 64), ("pure_noise2noise", 160), ("tcfl", 64), ("tcfl", 160)):
        rows += restoring(name, side, rounds)
    seconds = common.time_interleaved({str(batch): restore_tiles(batch) for batch in (1, 4, 16)}, rounds=rounds)
    for batch, values in seconds.items():
        rate, speedup = f"{1 / common.median(values):.1f}", f"{common.speedup(seconds['1'], values):.2f}"
        rows.append(["tiles of 64 px", "256 px", f"{batch} at a time", rate, common.spread(values), speedup])
    common.print_table(["method", "image", "batching", "images/s", "spread", "speed-up"], rows)


if __name__ == "__main__":
    main()
