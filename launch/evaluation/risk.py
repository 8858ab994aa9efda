"""The mean squared error to the clean images, estimated without them: Stein's unbiased risk estimate of any method.

For y = x + n with Gaussian noise of covariance Sigma, and any restoration f,

    E |f(y) - x|^2 = E |f(y) - y|^2 - tr Sigma + 2 E tr(Sigma J(y)),

where J is the Jacobian of f (Stein, Annals of Statistics 1981). Its trace is estimated with one more restoration: for b
drawn from the noise's own distribution, tr(Sigma J) is the mean of b . (f(y + e b) - f(y)) / e (Ramani, Blu and Unser,
IEEE TIP 2008). The estimate is right whatever the method is and was trained with, as far as the noise is Gaussian and
its model is right.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from quell.losses.noise.model import FieldNoise
from quell.pipelines.base import Batch, Pipeline

STEP = 0.1
"""Size of the change `e`, in units of the noise: small beside it, and large beside the rounding of float32."""


@torch.no_grad()
def estimated_risk(
    pipeline: Pipeline, batch: Batch, restored: Mapping[str, Tensor], noise: Mapping[str, FieldNoise]
) -> dict[str, Tensor]:
    """Estimate the risk of every image; restores the batch once more, and under autocast twice, in float32.

    Args:
        pipeline: In evaluation mode.
        batch: Whole images, on the pipeline's device.
        restored: What `pipeline.restore(batch)` returned.
        noise: Noisy field -> the model of its noise, in stored units.

    Returns:
        `<output>/risk`, (N,): mean squared error in squared stored units (per component of complex images),
        for primary outputs whose field has a model. By chance an image's value can be negative; means over images
        are meant to be compared.
    """
    outputs = {name: o.noisy for name, o in pipeline.outputs.items() if o.primary and o.noisy in noise}
    probes = {field: _probe(batch, field, noise[field]) for field in outputs.values()}
    changed = dict(batch)
    for field, probe in probes.items():
        changed[field] = batch[field] + (STEP * probe / batch[f"{field}_scale"]).to(batch[field].dtype)
    kind = next(iter(probes.values())).device.type if probes else "cpu"
    is_half = torch.is_autocast_enabled(kind)
    with torch.autocast(kind, enabled=False):  # a difference of images in half precision is their rounding
        before, moved = pipeline.restore(batch) if is_half else restored, pipeline.restore(changed)
    risks = {}
    for name, field in outputs.items():
        scale, probe = batch[f"{field}_scale"], probes[field]
        residual = (restored[name] - batch[field]) * scale
        change = (moved[name] - before[name]) * scale
        variance = _tensor(noise[field].map_at(*residual.shape[-2:]), scale).square().mean()
        parts = 2 if residual.is_complex() else 1
        power = residual.abs().square().flatten(1).mean(1) / parts
        trace = (probe.conj() * change).real.flatten(1).mean(1) / STEP / parts
        risks[f"{name}/risk"] = power - variance + 2 * trace
    return risks


def _probe(batch: Batch, field: str, noise: FieldNoise) -> Tensor:
    """Noise of the field's own distribution in stored units, determined by each sample's index."""
    like = batch[field]
    samples = []
    for index in batch["index"].tolist():
        random = np.random.default_rng([index, *field.encode()])
        channels = []
        for _ in range(like.shape[1]):
            sample = noise.sample(random, (like.shape[-2], like.shape[-1]))
            channels.append(sample + 1j * noise.sample(random, sample.shape) if like.is_complex() else sample)
        samples.append(np.stack(channels))
    return torch.from_numpy(np.stack(samples)).to(like.device, like.dtype)


def _tensor(array: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(array).to(like.device, torch.float32)
