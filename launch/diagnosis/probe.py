"""Measurements on a trained model that its log does not hold: gradients, sharpness, whether paired images are pairs."""

import math
import statistics
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, sobel
from torch import Tensor

from quell.configs.schema import RunConfig
from quell.launch.data import loading, splits
from quell.launch.data.finishing import Finisher
from quell.launch.evaluation import evaluator, known_noise
from quell.launch.evaluation.evaluator import Rows
from quell.launch.evaluation.measuring.host_work import HostImages, Job
from quell.launch.evaluation.measuring.stored_images import reference_field, stored_image
from quell.launch.inference import trained_model
from quell.losses.common.noise_level import noise_levels
from quell.losses.noise.model import NoiseModel
from quell.pipelines.base import Batch, Output, Pipeline
from quell.pipelines.reporting.assumed_noise import AssumedNoise
from quell.pipelines.reporting.checks import Finding
from quell.shards.reading.loaders import Loader
from quell.shards.reading.order import SampleOrder
from quell.shards.reading.shard_set import ShardSet

IMAGES = 8
"""Number of validation images examined, and of training images."""

BLUR_PX = 2.0
"""Standard deviation of the blur before edges of two contrasts are compared, which noise would hide otherwise."""


@dataclass(frozen=True)
class Probed:
    """What was measured on a trained run."""

    values: dict[str, float]
    """See `probe`."""
    findings: list[Finding]
    """The method's findings on the metrics of the last evaluation."""
    noise: NoiseModel | None
    """The noise of the training images."""
    assumed_noise: dict[str, AssumedNoise]
    """Field -> what the method took its noise for, where a setting says."""


def probe(run: Path, metrics: dict[str, float]) -> Probed:
    """Examine the last checkpoint of a run.

    Args:
        run: The run folder.
        metrics: Means of the last evaluation.

    Returns:
        Measured values by name, the method's findings on `metrics`, and the noise. The values:

        - `grad_<part>`, `reached_<part>`: mean magnitude of the gradient of one training batch in a part of the
          pipeline, and the share of its parameters whose gradient is not zero;
        - `median_<field>`: median magnitude of the images that the networks see (1 if they are normalised);
        - `noise_<field>`: their noise level in the same unit;
        - `scale_<field>`: what they were divided by;
        - `sharpness_<output>`: gradient energy of the restored images relative to the clean ones;
        - `gain_train`, `gain_val`: gain in PSNR over the noisy images in dB, `gain_error`: the standard error of their
          difference; missing if clean images are not known;
        - `paired`: how much better the edges of paired images match than those of unrelated ones (difference of
          correlations, 0 if the data is not paired); for methods with `paired_fields`.

    Raises:
        CheckpointError: There is no checkpoint, or it does not fit the configuration.
        DataError: The shards cannot be read.
    """
    config = trained_model.folder_of(run).config()
    train_shards = splits.open_split(config.data, config.data.train_split)
    pipeline = trained_model.load(run, train_shards, which="last", losses=True).pipeline
    batch = first_training_batch(pipeline, config, train_shards)
    values = {**gradients(pipeline, batch), **image_levels(pipeline, batch)}

    needs = type(pipeline).needs(config.pipeline)
    val_shards = splits.open_split(config.data, config.data.val_split)
    val_images = loading.load_whole_images(val_shards, needs, config.data, IMAGES)
    val_rows = measure(pipeline, val_images, splits.data_range(val_shards))
    values |= {name: mean for name, mean in evaluator.means(val_rows).items() if name.startswith("sharpness_")}
    train_images = loading.load_whole_images(train_shards, needs, config.data, IMAGES)
    train_rows = measure(pipeline, train_images, splits.data_range(train_shards))
    values |= psnr_gains(pipeline, train_rows, val_rows)
    values |= pairing(val_images, type(pipeline).paired_fields)
    noise = known_noise.noise_of_run(trained_model.folder_of(run), pipeline, config.data, needs)
    assumed = {name: pipeline.assumed_noise(name, found) for name, found in (noise.fields if noise else {}).items()}
    told = {name: value for name, value in assumed.items() if value is not None}
    return Probed(values, pipeline.findings(metrics), noise, told)


def first_training_batch(pipeline: Pipeline, config: RunConfig, shards: ShardSet) -> Batch:
    """The first batch that the run was trained on."""
    recipe = loading.training_recipe(pipeline.training_needs(), config.data, shards, pipeline.draws)
    order = SampleOrder(size=len(shards), batch=min(config.data.batch_size, len(shards)), seed=config.seed)
    with Loader(shards, order, recipe, steps=1, prefetch=1) as loader:
        ((batch,),) = loader
    return Finisher(recipe, shards, config.seed)(batch)


def measure(pipeline: Pipeline, batches: list[Batch], data_range: float) -> Rows:
    """Rows with PSNR, and with the sharpness of each output whose clean image is known."""

    def sharpness(images: HostImages, i: int) -> Job:
        return lambda: sharpness_of(pipeline.outputs, images.batch, images.restored, i)

    return evaluator.evaluate_batches(
        pipeline,
        batches,
        data_range=data_range,
        device=torch.device("cpu"),
        autocast=nullcontext,
        metrics={"psnr": evaluator.DEFAULT_METRICS["psnr"]},
        on_image=sharpness,
    )


def sharpness_of(outputs: Mapping[str, Output], batch: Batch, restored: dict[str, Tensor], i: int) -> dict[str, float]:
    """`sharpness_<output>` of sample i: the energy of its gradient over that of the clean image."""
    shares = {}
    for name, output in outputs.items():
        if reference_field(output, batch) == output.clean:
            clean = _gradient_energy(stored_image(batch[output.clean][i]))
            shares[f"sharpness_{name}"] = _gradient_energy(stored_image(restored[name][i])) / max(clean, 1e-30)
    return shares


def psnr_gains(pipeline: Pipeline, train_rows: Rows, val_rows: Rows) -> dict[str, float]:
    """`gain_train`, `gain_val` and `gain_error` of the primary outputs; empty if clean images are not known."""
    means: dict[str, float] = {}
    variance = 0.0
    for name, rows in (("train", train_rows), ("val", val_rows)):
        metrics = [evaluator.headline(pipeline, row.values) for row in rows if row.reference == "clean"]
        gains = [values["psnr"] - values["noisy_psnr"] for values in metrics if "psnr" in values]
        if not gains or not all(map(math.isfinite, gains)):
            return {}
        means[f"gain_{name}"] = statistics.fmean(gains)
        variance += statistics.variance(gains) / len(gains) if len(gains) > 1 else 0.0
    return {**means, "gain_error": math.sqrt(variance)}


def gradients(pipeline: Pipeline, batch: Batch) -> dict[str, float]:
    """`grad_<part>` and `reached_<part>` of each part that a phase trains, for one batch."""
    values: dict[str, float] = {}
    carry: dict[str, Tensor] = {}
    pipeline.train()
    for phase in pipeline.phases:
        # as in training, only the phase's own parameters receive a gradient
        pipeline.requires_grad_(False)
        for parameter in pipeline.trained_parameters(phase):
            parameter.requires_grad_(True).grad = None
        output = pipeline.loss(phase, batch, carry)
        output.loss.backward()
        carry |= output.carry
        for part, parameters in pipeline.trained_parts(phase).items():
            total = sum(p.numel() for p in parameters)
            grads = [p.grad for p in parameters if p.grad is not None]
            if total:
                values[f"grad_{part}"] = sum(float(g.abs().sum()) for g in grads) / total
                values[f"reached_{part}"] = sum(int((g != 0).sum()) for g in grads) / total
    pipeline.zero_grad(set_to_none=True)
    pipeline.eval()
    return values


def image_levels(pipeline: Pipeline, batch: Batch) -> dict[str, float]:
    """`median_<field>`, `noise_<field>` and `scale_<field>` of the noisy fields of a batch."""
    values: dict[str, float] = {}
    for field in dict.fromkeys(output.noisy for output in pipeline.outputs.values()):
        images = batch[field]
        is_ri = pipeline.fields[field].layout == "ri"
        magnitude = torch.hypot(images[:, 0], images[:, 1]) if is_ri else images.abs()
        values[f"median_{field}"] = float(magnitude.flatten(1).median(dim=1).values.mean())
        values[f"scale_{field}"] = float(batch[f"{field}_scale"].mean())
        values[f"noise_{field}"] = float(noise_levels(images.cpu().numpy()).mean())
    return values


def pairing(batches: list[Batch], fields: tuple[str, ...]) -> dict[str, float]:
    """`paired`, for a method with two paired fields; empty for others and for a single image."""
    if not fields or any(name not in batches[0] for name in fields):
        return {}
    edges_by_field = [[_edges(stored_image(image)) for batch in batches for image in batch[name]] for name in fields]
    # correlations need vectors of one length: images of another size than the first are left out
    first, second = (np.stack([e for e in edges if e.shape == edges[0].shape]) for edges in edges_by_field)
    count = len(first)
    if count < 2:
        return {}
    correlations = np.corrcoef(first[:count], second[:count])[:count, count:]
    matched = float(np.mean(np.diag(correlations)))
    mismatched = float((correlations.sum() - np.trace(correlations)) / (count * (count - 1)))
    return {"paired": matched - mismatched} if math.isfinite(matched - mismatched) else {}


def _grey(image: NDArray[np.float64]) -> NDArray[np.float64]:
    return image if image.ndim == 2 else image.mean(-1)


def _gradient_energy(image: NDArray[np.float64]) -> float:
    """Mean magnitude of the gradient."""
    grey = _grey(image)
    return float(np.hypot(sobel(grey, 0), sobel(grey, 1)).mean())


def _edges(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gradient magnitude of the blurred image, flattened."""
    smooth = gaussian_filter(_grey(image), BLUR_PX)
    edges: NDArray[np.float64] = np.hypot(sobel(smooth, 0), sobel(smooth, 1)).ravel()
    return edges
