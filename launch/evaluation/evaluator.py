"""Metrics of a pipeline on full images: each rank restores its share, and the rows of all ranks are gathered once.

Metrics are computed in stored units (normalisation undone), on the magnitude of complex data, with the data range that
the shards state, and without clipping. Where no clean image exists, a second noisy copy is the reference, and the row
says so; without either, only the metrics that need no reference are computed.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from configs.errors import QuellError
from launch.data import loading
from launch.evaluation.metrics import Metric
from launch.evaluation.risk import estimated_risk
from launch.machine import out_of_memory
from losses.metrics.psnr import psnr
from losses.metrics.rmse import rmse
from losses.metrics.ssim import ssim
from losses.noise.model import FieldNoise
from pipelines.base import Batch, Output, Pipeline
from shards.reading.batch_assembler import Verify
from shards.reading.order import samples_of_rank
from shards.reading.recipe import Recipe
from shards.reading.shard_set import ShardSet

DEFAULT_METRICS = {"psnr": Metric(psnr), "ssim": Metric(ssim), "rmse": Metric(rmse)}
"""What is measured during training; launch/evaluate.py can measure more."""

Reference = Literal["clean", "second noisy copy", "none"]
"""What an image was compared with."""


@dataclass
class ImageRow:
    """The measurements of one image of a split."""

    index: int
    """Position in the split."""
    key: str
    size_px: tuple[int, int] | None = None
    """Height and width."""
    reference: Reference = "clean"
    values: dict[str, float] = field(default_factory=dict)
    """The method's diagnostics, and metrics: `<output>/psnr` of the restored image, `<output>/noisy_psnr` of its noisy
    image, `<noisy field>/<baseline>/psnr` of a baseline."""

    def to_json(self) -> dict[str, object]:
        """The row as report.json stores it: flat, and without the reference where that is the clean image."""
        entry: dict[str, object] = {"index": self.index, "key": self.key}
        if self.size_px is not None:
            entry["size_px"] = list(self.size_px)
        if self.reference != "clean":
            entry["reference"] = self.reference
        return entry | self.values


Rows = list[ImageRow]

OnImage = Callable[[Batch, dict[str, Tensor], int], dict[str, float]]
"""Called with a batch, its restored images by output, and a position in the batch; returns more values for the row."""


def evaluate_split(
    pipeline: Pipeline,
    shards: ShardSet,
    recipe: Recipe,
    *,
    count: int,
    batch_size: int,
    data_range: float,
    rank: int,
    world: int,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
    metrics: dict[str, Metric] = DEFAULT_METRICS,
    on_image: OnImage | None = None,
    verify: Verify = "first",
    noise: Mapping[str, FieldNoise] | None = None,
) -> Rows:
    """Measure a split on all ranks. Collective: every rank calls it, and every rank gets the rows of all.

    Args:
        pipeline: Restores the images; put into evaluation mode for the duration.
        shards: The split.
        recipe: Which fields to read, and their units (`launch.data.loading.evaluation_recipe`).
        count: Number of samples to measure, from the first one on.
        batch_size: Images restored together on one rank.
        data_range: Range of the stored values, which PSNR and SSIM are computed with.
        rank: This process's rank.
        world: World size.
        device: Where the pipeline is.
        autocast: Makes the context in which the pipeline restores.
        metrics: What to compute, by name.
        on_image: See `OnImage`; sees the images of this rank only.
        verify: When checksums are compared (data.verify).
        noise: Noisy field -> the model of its noise; with it, each output's `risk` is estimated (risk.py).

    Returns:
        One row per sample, in the order of the split.

    Raises:
        QuellError: This rank or another one could not read or restore its share.
    """

    def measure_share() -> Rows:
        samples, method = samples_of_rank(count, rank, world), type(pipeline).__name__
        with (
            out_of_memory.explained(device, lambda: out_of_memory.evaluating(method, batch_size)),
            loading.whole_images(shards, samples, recipe, batch_size, device=device, verify=verify) as batches,
        ):
            return evaluate_batches(
                pipeline,
                batches,
                data_range=data_range,
                device=device,
                autocast=autocast,
                metrics=metrics,
                on_image=on_image,
                noise=noise,
            )

    return gather_rows(measure_share, world)


def evaluate_batches(
    pipeline: Pipeline,
    batches: Iterable[Batch],
    *,
    data_range: float,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
    metrics: dict[str, Metric] = DEFAULT_METRICS,
    on_image: OnImage | None = None,
    noise: Mapping[str, FieldNoise] | None = None,
) -> Rows:
    """Measure every image of these finished batches on this process; arguments as for `evaluate_split`."""
    rows: Rows = []
    was_training = pipeline.training
    pipeline.eval()
    with torch.no_grad():
        for finished in batches:
            on_device = loading.to_device(finished, device)
            batch = loading.to_device(finished, torch.device("cpu"))
            with autocast():
                restored = {
                    name: value if value.is_complex() else value.float()
                    for name, value in pipeline.restore(on_device).items()
                }
                diagnostics = pipeline.diagnostics(on_device, restored)
                if noise is not None:
                    diagnostics |= estimated_risk(pipeline, on_device, restored, noise)
            for i, key in enumerate(batch["key"]):
                row = ImageRow(int(batch["index"][i]), key)
                row.values |= {name: float(values[i]) for name, values in diagnostics.items()}
                for name, output in pipeline.outputs.items():
                    _measure_output(row, name, output, batch, restored[name][i], i, data_range, metrics)
                if on_image is not None:
                    row.values |= on_image(batch, restored, i)
                rows.append(row)
    pipeline.train(was_training)
    return rows


def gather_rows(measure: Callable[[], Rows], world: int) -> Rows:
    """The rows that `measure` returns on each of the ranks, in the order of the split. Collective.

    A QuellError on one rank is raised on all of them. Otherwise the others would wait in the gathering for a rank that
    has left; this way they can save a checkpoint together.
    """
    own_rows: Rows = []
    own_error: QuellError | None = None
    try:
        own_rows = measure()
    except QuellError as error:
        own_error = error
    own = (own_rows, own_error)
    gathered: list[tuple[Rows, QuellError | None]] = [own] * world
    if world > 1:
        torch.distributed.all_gather_object(gathered, own)
    if own_error is not None:
        raise own_error
    for _, others_error in gathered:
        if others_error is not None:
            raise others_error
    return sorted((row for rows, _ in gathered for row in rows), key=lambda row: row.index)


def means(rows: Rows) -> dict[str, float]:
    """Mean of each value over the rows that have it; NaN is left out."""
    averages = {}
    for name in dict.fromkeys(name for row in rows for name in row.values):
        values = [row.values[name] for row in rows if name in row.values and not math.isnan(row.values[name])]
        if values:
            # fsum is exact, so the mean does not depend on how the ranks shared the images; but fsum raises on
            # infinities of both signs, whose sum is NaN
            total = math.fsum(values) if all(map(math.isfinite, values)) else sum(values)
            averages[name] = total / len(values)
    return averages


def headline(pipeline: Pipeline, averages: dict[str, float]) -> dict[str, float]:
    """Each metric averaged over the primary outputs, by its plain name: `psnr`, `noisy_psnr`."""
    primary = [name for name, output in pipeline.outputs.items() if output.primary]
    headline_values: dict[str, float] = {}
    for metric in dict.fromkeys(name.split("/")[1] for name in averages if "/" in name):
        values = [averages[f"{name}/{metric}"] for name in primary if f"{name}/{metric}" in averages]
        if values:
            headline_values[metric] = sum(values) / len(values)
    return headline_values


def reference_field(output: Output, batch: Batch) -> str | None:
    """The field that an output is compared with: the clean image, else a second noisy copy, else none."""
    return next((name for name in output.references if name in batch), None)


def stored_image(image_CHW: Tensor, scale: Tensor | float = 1.0) -> np.ndarray:
    """A batch image in stored units, as metrics and pictures take it.

    Args:
        image_CHW: Real or complex; two channels are the real and the imaginary part.
        scale: What the image was divided by in the batch (`<field>_scale`).

    Returns:
        float64, (H, W) for one channel and for the magnitude of complex images, (H, W, C) for colour.
    """
    image = image_CHW.detach().cpu()
    array = image.to(torch.complex128 if image.is_complex() else torch.float64).numpy() * float(scale)
    if np.iscomplexobj(array):
        array = np.abs(array)
    elif array.shape[0] == 2:
        array = np.hypot(array[0], array[1])[None]
    return array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)


def measure_images(
    images: dict[str, np.ndarray],
    clean: np.ndarray | None,
    noisy: np.ndarray,
    *,
    data_range: float,
    metrics: dict[str, Metric],
) -> dict[str, float]:
    """The metrics of several restorations of one noisy image, those left out that need a clean image and have none.

    The keys of `images` are prefixes: `{"restored/": image}` gives `restored/psnr` and so on.
    """
    values = {
        f"{prefix}{name}": metric(image, clean, noisy=noisy, data_range=data_range)
        for name, metric in metrics.items()
        for prefix, image in images.items()
    }
    return {name: value for name, value in values.items() if value is not None}


def _measure_output(
    row: ImageRow,
    name: str,
    output: Output,
    batch: Batch,
    restored_CHW: Tensor,
    i: int,
    data_range: float,
    metrics: dict[str, Metric],
) -> None:
    """Add the metrics of one output of sample i, and of its noisy image, to the row."""
    reference = reference_field(output, batch)
    scale = batch[f"{output.noisy}_scale"][i]
    clean = stored_image(batch[reference][i], batch[f"{reference}_scale"][i]) if reference else None
    noisy = stored_image(batch[output.noisy][i], scale)
    images = {f"{name}/": stored_image(restored_CHW, scale), f"{name}/noisy_": noisy}
    row.values |= measure_images(images, clean, noisy, data_range=data_range, metrics=metrics)
    row.size_px = (noisy.shape[0], noisy.shape[1])
    if reference is None:
        row.reference = "none"
    elif reference != output.clean:
        row.reference = "second noisy copy"
