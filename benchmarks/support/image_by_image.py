"""Evaluation as it was before images were measured in batches: one after the other, on numpy arrays in float64."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from quell.configs.fields import FieldSpec
from quell.launch.evaluation.evaluator import DEFAULT_METRICS
from quell.launch.evaluation.measuring.host_metrics import measure_output
from quell.losses.noise.model import FieldNoise
from quell.losses.noise.residuals import ResidualChecks, check_residual
from quell.pipelines.base import Batch, Pipeline

Values = dict[str, float]


@torch.no_grad()
def evaluate(
    pipeline: Pipeline, batches: Iterable[Batch], data_range: float, noise: Mapping[str, FieldNoise]
) -> list[Values]:
    """The values of every image: diagnostics, metrics, and the checks against the noise of its field."""
    rows: list[Values] = []
    for batch in batches:
        restored = pipeline.restore(batch)
        diagnostics = pipeline.diagnostics(batch, restored)
        for i in range(len(batch["key"])):
            values = {name: float(found[i]) for name, found in diagnostics.items()}
            for name, output in pipeline.outputs.items():
                values |= measure_output(batch, restored[name], name, output, i, data_range, DEFAULT_METRICS)
                field = output.noisy
                scale, spec = batch[f"{field}_scale"][i], pipeline.fields[field]
                noisy, image = (_planes(x * scale, spec) for x in (batch[field][i], restored[name][i]))
                checks = [check_residual(a, b, noise[field]) for a, b in zip(noisy, image, strict=True)]
                means = np.mean(np.array(checks), axis=0)
                values |= dict(
                    zip((f"{name}/residual_{check}" for check in ResidualChecks._fields), means, strict=True)
                )
            rows.append(values)
    return rows


def largest_difference(rows: Iterable[Values], others: Iterable[Values]) -> float:
    """The largest difference between values that both know, relative to values above 1."""
    differences = [
        abs(own[name] - other[name]) / max(1, abs(own[name]))
        for own, other in zip(rows, others, strict=True)
        for name in own.keys() & other.keys()
        if np.isfinite(own[name])
    ]
    return max(differences)


def _planes(image_CHW: Tensor, spec: FieldSpec) -> list[np.ndarray]:
    """The image's channels as arrays (H, W); real and imaginary channels joined to complex ones."""
    planes = [plane.numpy() for plane in image_CHW.detach()]
    if spec.layout == "ri":
        return [real + 1j * imaginary for real, imaginary in zip(planes[::2], planes[1::2], strict=True)]
    return planes
