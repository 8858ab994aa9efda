"""What the networks of the dual-domain method do with one batch, as the older program's diagnose.py printed it."""

from collections.abc import Callable

import torch
from torch import Tensor

from quell.pipelines.base import Batch
from quell.pipelines.common.dual_domain.instruments import DOMAINS
from quell.pipelines.common.dual_domain.settings import DualDomainSettings
from quell.pipelines.reporting.checks import CheckValue


def describe(
    config: DualDomainSettings,
    batch: Batch,
    latents: dict[str, Tensor],
    images: dict[str, Tensor],
    *,
    skips: int,
    distance: Callable[[Tensor, Tensor], Tensor],
) -> dict[str, CheckValue]:
    """Latents, skips, decoded images and their errors, by name.

    Args:
        config: The method's settings.
        batch: A training batch, to which no noise is added.
        latents: Each contrast's latent, (N, C, H, W).
        images: Each contrast by both paths, in the units of the batch.
        skips: Number of skip connections of a decoder.
        distance: Mean error of an image.

    Returns:
        Mean and standard deviation of each latent, |z_pd - z_pdfs|, the skips, and for each contrast and path the mean
        magnitude of the image and its error against the noisy image, that of the cross path also in stored units.
    """
    described: dict[str, CheckValue] = {}
    for name in DOMAINS:
        described |= {f"z_{name} mean": _real(latents[name]).mean().item()}
        described |= {f"z_{name} std": _real(latents[name]).std().item()}
    described["|z_pd - z_pdfs|"] = (latents["pd"] - latents["pdfs"]).abs().mean().item()
    described["skips"] = f"{skips} per contrast"
    described["same path"] = "own skips" if config.same_domain_use_skip else "no_skip"
    described["cross path"] = config.cross_domain_strategy
    for path in ("same", "cross"):
        for name in DOMAINS:
            image = images[f"{name}_{path}"]
            described[f"{name}_{path} mean |x|"] = image.abs().mean().item()
            described[f"{name}_{path} error"] = distance(image, batch[name]).item()
    for name in DOMAINS:
        scale = batch[f"{name}_scale"]
        error = distance(scale * images[f"{name}_cross"], scale * batch[name]).item()
        described[f"{name}_cross error, stored"] = error
    return described


def _real(latent: Tensor) -> Tensor:
    return torch.view_as_real(latent) if latent.is_complex() else latent
