"""Metrics of a pipeline on full images: each rank restores its share, and the rows of all ranks are gathered once.

Metrics are computed in stored units (normalisation undone), on the magnitude of complex data, with the data range that
the shards state, and without clipping. Where no clean image exists, a second noisy copy is the reference, and the row
says so; without either, only the metrics that need no reference are computed.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from quell.configs.errors import QuellError
from quell.launch.data import loading
from quell.launch.evaluation.measuring import batch_metrics, host_metrics
from quell.launch.evaluation.measuring.deferred_values import DeferredValues, Measured
from quell.launch.evaluation.measuring.halving import Halving
from quell.launch.evaluation.measuring.host_work import HostImages, HostWork, Job
from quell.launch.evaluation.measuring.metrics import Metric
from quell.launch.evaluation.measuring.stored_images import reference_field
from quell.launch.evaluation.risk import estimated_risk
from quell.launch.machine import out_of_memory
from quell.launch.machine.arithmetic import full_float32
from quell.losses.metrics.psnr import psnr
from quell.losses.metrics.rmse import rmse
from quell.losses.metrics.ssim import ssim
from quell.losses.noise.model import FieldNoise
from quell.pipelines.base import Batch, Output, Pipeline
from quell.shards.reading.batch_assembler import Verify
from quell.shards.reading.order import samples_of_rank
from quell.shards.reading.recipe import Recipe
from quell.shards.reading.shard_set import ShardSet

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
    group: str | None = None
    """Patient, subject or scene, where the shards say."""
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
        if self.group is not None:
            entry["group"] = self.group
        return entry | self.values


Rows = list[ImageRow]

OnBatch = Callable[[Batch, dict[str, Tensor]], dict[str, Tensor]]
"""Called with a batch and its restored images by output, on the device; returns more values of each image, (N,)."""

OnImage = Callable[[HostImages, int], Job | None]
"""Called with a batch and a position in it; returns work for a thread of the host, which finds more values."""


EarlierValues = dict[str, dict[str, float]]
"""Sample's key -> its values in an earlier evaluation of the same split with the same metrics, of which those of noisy
images are not computed again; an evaluation fills it in."""


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
    on_batch: OnBatch | None = None,
    on_image: OnImage | None = None,
    verify: Verify = "first",
    noise: Mapping[str, FieldNoise] | None = None,
    earlier: EarlierValues | None = None,
) -> Rows:
    """Measure a split on all ranks: each calls it and gets a row per sample, in the split's order, or a rank's error.

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
        on_batch: See `OnBatch`; sees the images of this rank only.
        on_image: See `OnImage`; likewise.
        verify: When checksums are compared (data.verify).
        noise: Noisy field -> the model of its noise; with it, each output's `risk` is estimated (risk.py).
        earlier: See `EarlierValues`.
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
                on_batch=on_batch,
                on_image=on_image,
                noise=noise,
                earlier=earlier,
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
    on_batch: OnBatch | None = None,
    on_image: OnImage | None = None,
    noise: Mapping[str, FieldNoise] | None = None,
    earlier: EarlierValues | None = None,
) -> Rows:
    """Measure every image of these finished batches on this process; arguments as for `evaluate_split`.

    A batch that the device's memory does not suffice for is measured in two halves, and so are all that follow. Values
    that compare the images of a batch with each other then compare fewer.
    """
    rows: Rows = []
    indices: list[Tensor] = []
    values, halving, earlier = DeferredValues(), Halving(device), {} if earlier is None else earlier
    was_training = pipeline.training
    pipeline.eval()

    def measure(batch: Batch) -> tuple[Batch, dict[str, Tensor], list[Measured]]:
        on_device = loading.to_device(batch, device)
        restored = _restore(pipeline, on_device, autocast)
        measured = _diagnose(pipeline, on_device, restored, autocast, noise)
        with full_float32():
            is_new = not all(key in earlier for key in batch["key"])
            measured += batch_metrics.measure_outputs(
                pipeline.outputs, on_device, restored, metrics, data_range, with_noisy=is_new
            )
            if on_batch is not None:
                measured += _of_images(on_batch(on_device, restored))
        return on_device, restored, measured

    with torch.no_grad(), HostWork() as host:
        for batch in batches:
            for on_device, restored, measured in halving.apply(measure, batch):
                own = _new_rows(pipeline.outputs, on_device, restored, earlier)
                for part in measured:
                    values.add(part, [row.values for row in own])
                images = HostImages(on_device, restored)
                for job, i in _host_jobs(pipeline.outputs, images, metrics, data_range, on_image):
                    host.add(job, own[i].values)
                rows += own
                indices.append(on_device["index"])
        values.read()
    for row, index in zip(rows, torch.cat(indices).tolist() if indices else [], strict=True):
        row.index = index
        earlier[row.key] = dict(row.values)
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


def _restore(
    pipeline: Pipeline, batch: Batch, autocast: Callable[[], AbstractContextManager[object]]
) -> dict[str, Tensor]:
    """The restored images by output, in float32 or complex64."""
    with autocast():
        return {name: x if x.is_complex() else x.float() for name, x in pipeline.restore(batch).items()}


def _diagnose(
    pipeline: Pipeline,
    batch: Batch,
    restored: dict[str, Tensor],
    autocast: Callable[[], AbstractContextManager[object]],
    noise: Mapping[str, FieldNoise] | None,
) -> list[Measured]:
    """What the method measures of its restored images, and the risk where the noise is known."""
    with autocast():
        values = pipeline.diagnostics(batch, restored)
        if noise is not None:
            values |= estimated_risk(pipeline, batch, restored, noise)
    return _of_images(values)


def _of_images(values: Mapping[str, Tensor]) -> list[Measured]:
    """Values by name, each (N,)."""
    return [Measured([(name,)], values_N[None]) for name, values_N in values.items()]


def _new_rows(outputs: Mapping[str, Output], batch: Batch, restored: dict[str, Tensor], earlier: EarlierValues) -> Rows:
    """A row for every image of a batch, with the values of its noisy image if these are known, and no index yet.

    The index is on the device, and reading it would wait for all work before it.
    """
    references: list[Reference] = []
    for output in outputs.values():
        reference = reference_field(output, batch)
        if reference is None:
            references.append("none")
        elif reference != output.clean:
            references.append("second noisy copy")
    height, width = next(reversed(restored.values())).shape[-2:]
    noisy = tuple(f"{name}/noisy_" for name in outputs)
    return [
        ImageRow(
            index=-1,
            key=key,
            size_px=(height, width),
            reference=references[-1] if references else "clean",
            values={name: v if name.startswith(noisy) else math.nan for name, v in earlier.get(key, {}).items()},
        )
        for key in batch["key"]
    ]


def _host_jobs(
    outputs: Mapping[str, Output],
    images: HostImages,
    metrics: dict[str, Metric],
    data_range: float,
    on_image: OnImage | None,
) -> Iterator[tuple[Job, int]]:
    """Work on single images, with their positions in the batch: metrics without a batch form, and `on_image`."""
    by_output = {name: _host_metrics(output, images.on_device, metrics) for name, output in outputs.items()}
    for i in range(len(images.on_device["key"])):
        for name, own in by_output.items():
            if own:
                batch, restored, output = images.batch, images.restored[name], outputs[name]
                yield partial(host_metrics.measure_output, batch, restored, name, output, i, data_range, own), i
        job = on_image(images, i) if on_image is not None else None
        if job is not None:
            yield job, i


def _host_metrics(output: Output, batch: Batch, metrics: dict[str, Metric]) -> dict[str, Metric]:
    """The metrics of an output that are measured image by image."""
    if reference_field(output, batch) is None:
        return {name: metric for name, metric in metrics.items() if not metric.needs_clean}
    return {name: metric for name, metric in metrics.items() if not metric.batch_form}
