"""Checks of restored images that need no clean ones: the residual against the noise's model, field by field."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from quell.configs.fields import FieldSpec
from quell.configs.support.suggestions import as_started_here
from quell.losses.noise.model import FieldNoise
from quell.losses.noise.residuals import ResidualChecks, check_residuals
from quell.pipelines.base import Batch
from quell.pipelines.reporting.checks import Finding

EXCESS, MISSING, STRUCTURE, ADDED = 0.12, 0.4, 0.25, 0.25
"""Largest values that pass: A knee slice with white or correlated noise, restored by BM3D told its spectrum: excess
0.02, missing 0.26, structure below 0, added 0. Blurred by 1.5 px: structure 0.7. Told white noise where it is
correlated: missing 0.85. White noise of the right size removed from correlated noise: excess 0.6, missing 0.75."""

CHECKS = tuple(f"residual_{check}" for check in ResidualChecks._fields)
"""The checks as values of an image."""

_AUDIT = as_started_here("python -m shards.noise")

REMEDIES = {
    "excess": (
        EXCESS,
        "of the noise's power was removed beyond the noise: structure is lost or an artefact is added; train longer, "
        f"or the noise is not what the method was told ({_AUDIT} shows what it is)",
    ),
    "missing": (
        MISSING,
        "of the noise's power is left in the result: train longer, or the noise is not what the method was told "
        f"({_AUDIT} shows what it is)",
    ),
    "structure": (
        STRUCTURE,
        "is the correlation of what was removed with edges: the restoration blurs; train longer, or a larger network",
    ),
    "added": (
        ADDED,
        "of the noise's power was added as a pattern that the noisy image does not have; the result is worse than it "
        "looks: lower the learning rate, or check what the method was told about the noise",
    ),
}
"""Check -> its largest value that passes, and what a larger one means."""


def diagnostics(
    batch: Batch,
    restored: Mapping[str, Tensor],
    noise: Mapping[str, FieldNoise],
    specs: Mapping[str, FieldSpec],
) -> dict[str, Tensor]:
    """Per image (N,), the mean over fields and channels: `residual_<check>`, see losses/noise/residuals.py.

    Args:
        batch: The noisy fields and their scales.
        restored: Noisy field -> its restoration, in the units of the batch.
        noise: Noisy field -> the model of its noise in stored units.
        specs: Noisy field -> the layout of its channels.
    """
    totals: list[Tensor] = []
    for name, image in restored.items():
        scale = batch[f"{name}_scale"]
        noisy, clean = (_planes(x * scale, specs[name]) for x in (batch[name], image))
        checks = check_residuals(noisy.flatten(0, 1), clean.flatten(0, 1), noise[name])
        totals += checks.unflatten(1, noisy.shape[:2]).unbind(2)
    return dict(zip(CHECKS, torch.stack(totals).mean(0), strict=True))


def findings(metrics: Mapping[str, float]) -> list[Finding]:
    """One verdict per check that was measured."""
    verdicts = []
    for check, (threshold, remedy) in REMEDIES.items():
        value = metrics.get(f"residual_{check}", math.nan)
        if math.isnan(value):
            continue
        passes = value <= threshold
        message = f"{value:.2f} " + (remedy if not passes else "is what a good restoration has")
        verdicts.append(Finding(f"residual_{check}", value, threshold, passes, message))
    return verdicts


def _planes(image_NCHW: Tensor, spec: FieldSpec) -> Tensor:
    """The images' channels, (N, C, H, W) in float32; real and imaginary channels joined to complex ones."""
    if image_NCHW.is_complex():
        return image_NCHW
    image_NCHW = image_NCHW.float()
    if spec.layout == "ri":
        return torch.complex(image_NCHW[:, ::2], image_NCHW[:, 1::2])
    return image_NCHW
