"""What a training log does not say: where gradients arrive, how sharp the images are, whether the pairs are pairs."""

import math
import statistics
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, sobel
from torch import Tensor

from launch.data import loading, splits
from launch.evaluation import evaluator
from launch.evaluation.evaluator import Rows, reference_field, stored_image
from launch.inference import trained_model
from pipelines.base import Batch, Pipeline
from pipelines.common.dual_domain import instruments
from pipelines.reporting.checks import Finding
from shards.reading.loaders import Loader
from shards.reading.order import SampleOrder

IMAGES = 8
"""Validation images looked at, and training images as well."""

BLUR_PX = 2.0
"""Smoothing before the contours of two contrasts are compared: noise must not hide them."""


def probe(run: Path, metrics: dict[str, float]) -> tuple[dict[str, float], list[Finding]]:
    """Measured values by name, and the method's verdicts on the metrics of the last evaluation.

    `grad_<part>` and `reached_<part>`: mean size of the gradient of one training batch in a part of the pipeline, and
    the share of its parameters that get any. `median_<field>`: median magnitude of what a network sees (1 when images
    are normalised). `noise_<field>`: its noise level in those units. `sharpness_<output>`: gradient energy of the
    restored over the clean images. `gain_train`, `gain_val`: PSNR over that of the noisy images in dB, and `gain_error`
    the standard error of their difference; empty where clean images are not known. `paired`: how much closer the
    contours of a slice's two contrasts are than those of different slices (correlation, 0 for strangers).
    """
    config = trained_model.folder_of(run).config()
    shards = splits.open_split(config.data, config.data.train_split)
    pipeline = trained_model.load(run, shards, which="last").pipeline
    needs = type(pipeline).needs(config.pipeline)
    recipe = loading.training_recipe(needs, config.data, shards)
    count = min(config.data.batch_size, len(shards))
    with Loader(
        shards, SampleOrder(size=len(shards), batch=count, seed=config.seed), recipe, steps=1, prefetch=1
    ) as loader:
        ((batch,),) = loader
    found = {**gradients(pipeline, batch), **levels(pipeline, batch)}
    validation = splits.open_split(config.data, config.data.val_split)
    seen = loading.load_whole_images(validation, needs, config.data, IMAGES)
    rows = measured(pipeline, seen, splits.data_range(validation))
    found |= {name: value for name, value in evaluator.means(rows).items() if name.startswith("sharpness_")}
    training = measured(
        pipeline, loading.load_whole_images(shards, needs, config.data, IMAGES), splits.data_range(shards)
    )
    return {**found, **gains(pipeline, training, rows), **pairing(seen)}, pipeline.findings(metrics)


def measured(pipeline: Pipeline, batches: list[Batch], range_: float) -> Rows:
    """Rows of PSNR, and of the sharpness of each output whose clean image is known."""

    def sharpness(batch: Batch, restored: dict[str, Tensor], i: int) -> dict[str, float]:
        found = {}
        for name, output in pipeline.outputs.items():
            if reference_field(output, batch) == output.clean:
                clean = _contour(stored_image(batch[output.clean][i]))
                found[f"sharpness_{name}"] = _contour(stored_image(restored[name][i])) / max(clean, 1e-30)
        return found

    return evaluator.evaluate_batches(
        pipeline,
        batches,
        data_range=range_,
        device=torch.device("cpu"),
        autocast=nullcontext,
        metrics={"psnr": evaluator.DEFAULT_METRICS["psnr"]},
        on_image=sharpness,
    )


def gains(pipeline: Pipeline, training: Rows, validation: Rows) -> dict[str, float]:
    """`gain_train`, `gain_val` and `gain_error`, of the primary outputs; empty where clean images are not known."""
    found: dict[str, float] = {}
    variance = 0.0
    for name, rows in (("train", training), ("val", validation)):
        each = [evaluator.headline(pipeline, row.values) for row in rows if row.reference == "clean"]
        values = [row["psnr"] - row["noisy_psnr"] for row in each if "psnr" in row]
        if not values or not all(map(math.isfinite, values)):
            return {}
        found[f"gain_{name}"] = statistics.fmean(values)
        variance += statistics.variance(values) / len(values) if len(values) > 1 else 0.0
    return {**found, "gain_error": math.sqrt(variance)}


def gradients(pipeline: Pipeline, batch: Batch) -> dict[str, float]:
    """`grad_<part>` and `reached_<part>` of every part that some phase trains, for one batch."""
    found: dict[str, float] = {}
    carry: dict[str, Tensor] = {}
    pipeline.train()
    for phase, parts in pipeline.phases.items():
        pipeline.requires_grad_(False)
        for parameter in pipeline.trained_parameters(phase):
            parameter.requires_grad_(True).grad = None
        step = pipeline.loss(phase, batch, carry)
        step.loss.backward()
        carry |= step.carry
        for part in parts:
            value = getattr(pipeline, part)
            parameters = [value] if isinstance(value, torch.nn.Parameter) else list(value.parameters())
            total = sum(p.numel() for p in parameters)
            given = [p.grad for p in parameters if p.grad is not None]
            if total:
                found[f"grad_{part}"] = sum(float(g.abs().sum()) for g in given) / total
                found[f"reached_{part}"] = sum(int((g != 0).sum()) for g in given) / total
    pipeline.zero_grad(set_to_none=True)
    pipeline.eval()
    return found


def levels(pipeline: Pipeline, batch: Batch) -> dict[str, float]:
    """`median_<field>` and `noise_<field>` of the noisy fields of a batch."""
    found: dict[str, float] = {}
    for field in dict.fromkeys(output.noisy for output in pipeline.outputs.values()):
        images = batch[field]
        parts = pipeline.fields[field].layout == "ri"
        magnitude = torch.hypot(images[:, 0], images[:, 1]) if parts else images.abs()
        found[f"median_{field}"] = float(magnitude.flatten(1).median(dim=1).values.mean())
        found[f"noise_{field}"] = float(instruments.sigma(images).mean())
    return found


def pairing(batches: list[Batch]) -> dict[str, float]:
    """`paired`, for data of two contrasts; empty for others and for a single slice."""
    if any(name not in batches[0] for name in instruments.DOMAINS):
        return {}
    contours = {
        name: [_edges(stored_image(image)) for batch in batches for image in batch[name]]
        for name in instruments.DOMAINS
    }
    pd, pdfs = (np.stack([one for one in found if one.shape == found[0].shape]) for found in contours.values())
    count = len(pd)
    if count < 2:
        return {}
    table = np.corrcoef(pd[:count], pdfs[:count])[:count, count:]
    matched = float(np.mean(np.diag(table)))
    mismatched = float((table.sum() - np.trace(table)) / (count * (count - 1)))
    return {"paired": matched - mismatched} if math.isfinite(matched - mismatched) else {}


def _contour(image: np.ndarray) -> float:
    """Mean size of the gradient; colour is averaged."""
    grey = image if image.ndim == 2 else image.mean(-1)
    return float(np.hypot(sobel(grey, 0), sobel(grey, 1)).mean())


def _edges(image: np.ndarray) -> np.ndarray:
    smooth = gaussian_filter(image if image.ndim == 2 else image.mean(-1), BLUR_PX)
    return np.hypot(sobel(smooth, 0), sobel(smooth, 1)).ravel()
