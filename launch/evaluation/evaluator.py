"""Metrics over whole images: every rank restores its share, rows are gathered once, one row per image and output.

Metrics are computed in stored units (the normalisation undone), on magnitudes of complex data, with the data range the
shards state, and without clipping. Where no clean image is known a second noisy copy stands in, and says so; without
either only the metrics that need no clean image are measured.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from configs.errors import DataError, QuellError
from launch.evaluation.metrics import Metric
from losses.metrics.psnr import psnr
from losses.metrics.rmse import rmse
from losses.metrics.ssim import ssim
from pipelines.base import Batch, Output, Pipeline

METRICS = {"psnr": Metric(psnr), "ssim": Metric(ssim), "rmse": Metric(rmse)}
"""What is measured during training; launch/evaluate.py can measure more."""

LOWER_IS_BETTER = ("rmse",)

Rows = list[dict[str, Any]]


def rows(
    pipeline: Pipeline,
    batches: Iterable[Batch],
    *,
    range_: float,
    to_device: Callable[[Batch], Batch],
    precision: Callable[[], AbstractContextManager[Any]],
    metrics: dict[str, Metric] = METRICS,
    each: Callable[[Batch, dict[str, Tensor], int], dict[str, Any]] | None = None,
) -> Rows:
    """One row per image of these batches: its index, key and size, instruments, and metrics of every output.

    A metric of output `o` is named `o/psnr`; `o/noisy_psnr` is the same metric of the noisy image. `each` is shown
    every image of every batch and may add to its row.
    """
    found: Rows = []
    was_training = pipeline.training
    pipeline.eval()
    with torch.no_grad():
        for batch in batches:
            on_device = to_device(batch)
            with precision():
                restored = {
                    name: value.float() if not value.is_complex() else value
                    for name, value in pipeline.restore(on_device).items()
                }
                examined = pipeline.diagnostics(on_device, restored)
            for i, key in enumerate(batch["key"]):
                row: dict[str, Any] = {"index": int(batch["index"][i]), "key": key}
                row |= {name: float(values[i]) for name, values in examined.items()}
                for name, output in pipeline.outputs.items():
                    row |= _measure(name, output, batch, restored[name][i], i, range_, metrics)
                if each is not None:
                    row |= each(batch, restored, i)
                found.append(row)
    pipeline.train(was_training)
    return found


def means(found: Rows) -> dict[str, float]:
    """Mean of every number over the rows that have it; NaN rows are left out of their mean."""
    names = dict.fromkeys(name for row in found for name, value in row.items() if isinstance(value, float))
    out = {}
    for name in names:
        values = [row[name] for row in found if name in row and not math.isnan(row[name])]
        if values:
            # exact, so that the order of ranks does not show; fsum refuses infinities of both signs
            total = math.fsum(values) if all(map(math.isfinite, values)) else sum(values)
            out[name] = total / len(values)
    return out


def headline(pipeline: Pipeline, averages: dict[str, float]) -> dict[str, float]:
    """Metrics averaged over the primary outputs, by plain name, with those of their noisy images."""
    primary = [name for name, output in pipeline.outputs.items() if output.primary]
    out: dict[str, float] = {}
    for key in dict.fromkeys(name.split("/")[1] for name in averages if "/" in name):
        values = [averages[f"{name}/{key}"] for name in primary if f"{name}/{key}" in averages]
        if values:
            out[key] = sum(values) / len(values)
    return out


def together(measure: Callable[[], Rows], world: int) -> Rows:
    """The rows that `measure` gives here and those of all other ranks, in the order of the split, each sample once.

    A QuellError of one rank is raised on all of them: none waits for it, and together they can save what they have.
    """
    mine, problem = [], None
    try:
        mine = measure()
    except QuellError as error:
        problem = error
    parts: list[tuple[Rows, str]] = [(mine, str(problem or ""))] * world
    if world > 1:
        torch.distributed.all_gather_object(parts, (mine, str(problem or "")))
    if problem is not None:
        raise problem
    for _, said in parts:
        if said:
            raise DataError(said)
    return sorted((row for rows, _ in parts for row in rows), key=lambda row: row["index"])


def reference_of(output: Output, batch: Batch) -> str | None:
    """The field an output is measured against: the clean image, a second noisy copy, or nothing."""
    second = output.clean.removesuffix("_clean") + "_second"
    return next((name for name in (output.clean, second) if name in batch), None)


def picture(image_CHW: Tensor, scale: Tensor | float = 1.0) -> np.ndarray:
    """What a metric or a person looks at, float64 in stored units: (H, W) magnitude or grey, (H, W, C) colour."""
    image = image_CHW.detach().cpu()
    array = image.to(torch.complex128 if image.is_complex() else torch.float64).numpy() * float(scale)
    if np.iscomplexobj(array):
        array = np.abs(array)
    elif array.shape[0] == 2:  # real and imaginary part
        array = np.hypot(array[0], array[1])[None]
    return array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)


def scores(
    images: dict[str, np.ndarray],
    clean: np.ndarray | None,
    noisy: np.ndarray,
    *,
    range_: float,
    metrics: dict[str, Metric],
) -> dict[str, float]:
    """Every metric that can be measured of images made of one noisy image, each by what it is called before its name.

    `{"restored/": image}` gives `restored/psnr`, and so on.
    """
    values = {
        f"{prefix}{name}": metric(image, clean, noisy=noisy, data_range=range_)
        for name, metric in metrics.items()
        for prefix, image in images.items()
    }
    return {name: value for name, value in values.items() if value is not None}


def _measure(
    name: str,
    output: Output,
    batch: Batch,
    restored: Tensor,
    i: int,
    range_: float,
    metrics: dict[str, Metric],
) -> dict[str, Any]:
    reference = reference_of(output, batch)
    scale = batch[f"{output.noisy}_scale"][i]
    clean = picture(batch[reference][i], batch[f"{reference}_scale"][i]) if reference else None
    noisy = picture(batch[output.noisy][i], scale)
    images = {f"{name}/": picture(restored, scale), f"{name}/noisy_": noisy}
    row: dict[str, Any] = {"size_px": list(noisy.shape[:2])}
    row |= scores(images, clean, noisy, range_=range_, metrics=metrics)
    if reference is None:
        row["reference"] = "none"
    elif reference != output.clean:
        row["reference"] = "second noisy copy"
    return row
