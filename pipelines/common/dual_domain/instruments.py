"""Measurements of a dual-domain model: is it below the noise floor, collapsed, flat, or copying noise?"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from quell.configs.fields import Layout
from quell.losses.common.noise_level import noise_levels_on_device
from quell.losses.common.order_statistics import lower_medians
from quell.pipelines.base import Batch
from quell.pipelines.reporting.checks import Finding

LEAK_MARGIN = 0.97
"""A cross loss below this share of the noise floor is a leak; the error of the estimated sigma is smaller than that."""
COLLAPSE = 0.01
"""Distance between samples' latents over mean |z| below which the latent no longer depends on the image."""
FLAT = 0.97
"""A cross loss above this share of the best constant image's loss means that no more than a mean was learned."""
CORRELATED = 0.3
"""Absolute correlation between residual and noise above which noise counts as leaked."""

DOMAINS = ("pd", "pdfs")
"""The noisy fields of the two contrasts."""


def levels(
    batch: Batch,
    restored: dict[str, Tensor],
    distance: Callable[[Tensor, Tensor], Tensor],
    layout: Layout,
    noise: dict[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Measure the cross loss, its noise floor and the loss of the best constant image, each per image (N,).

    The floor is the mean modulus of the targets' own noise, summed over both contrasts: sigma sqrt(pi/2) for complex
    noise of sigma per component, sigma sqrt(2/pi) for real noise. sigma is estimated by the MAD of a wavelet sub-band
    (losses/common/noise_level.py), which is right for white noise only; for other noise it is given as `noise`.
    """
    out: dict[str, list[Tensor]] = {"val_cross": [], "floor": [], "constant": []}
    sigmas = {
        f"sigma_{name}": noise_levels_on_device(batch[name]) if noise is None else noise[name] for name in DOMAINS
    }
    for name in DOMAINS:
        noisy = batch[name]
        out["val_cross"].append(_each(distance, restored[f"{name}_cross"], noisy))
        factor = math.sqrt(2 / math.pi) if layout == "real" else math.sqrt(math.pi / 2)
        out["floor"].append(factor * sigmas[f"sigma_{name}"])
        out["constant"].append(_each(distance, _constant(noisy), noisy))
    total = {key: torch.stack(values).sum(0) for key, values in out.items()}
    total |= sigmas
    total["cross_over_floor"] = total["val_cross"] / total["floor"]
    total["cross_over_constant"] = total["val_cross"] / total["constant"]
    return total


def latents(z_a: Tensor, z_b: Tensor) -> dict[str, Tensor]:
    """Measure collapse and alignment of the latents, each per image (N,); NaN for a batch of one.

    `latent_spread` is the mean distance to the other samples' latents over mean |z|: near 0, the encoder gives every
    image the same latent. `matched_over_mismatched` is the distance between a slice's two contrasts over the mean
    distance between those of different slices: near 1, the contrasts of a slice are no closer than unrelated ones.
    """
    n = len(z_a)
    if n < 2:
        unknown = torch.full((n,), math.nan)
        return {"latent_spread": unknown, "matched_over_mismatched": unknown}
    a, b = z_a.flatten(1).float(), z_b.flatten(1).float()
    own = torch.eye(n, dtype=torch.bool, device=a.device)
    within, across = (_mean_distances(a, other) for other in (a, b))
    spread, mismatched = (distances.masked_fill(own, 0).sum(1) / (n - 1) for distances in (within, across))
    alignment = across.diagonal() / mismatched.clamp_min(1e-30)
    return {"latent_spread": spread / a.abs().mean(1).clamp_min(1e-30), "matched_over_mismatched": alignment}


def leakage(batch: Batch, restored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Correlate (restored - clean) with the noise, per image (N,), averaged over both contrasts.

    `leak_target` and `leak_source` are the cross path's correlations with the noise of its target and of its source,
    `leak_same` is the same path's with the noise of its input. Empty where the clean images are not known.
    """
    if any(f"{name}_clean" not in batch for name in DOMAINS):
        return {}
    noise = {name: batch[name] - batch[f"{name}_clean"] for name in DOMAINS}
    out: dict[str, list[Tensor]] = {"leak_target": [], "leak_source": [], "leak_same": []}
    for own, other in (DOMAINS, DOMAINS[::-1]):
        cross = restored[f"{own}_cross"] - batch[f"{own}_clean"]
        out["leak_target"].append(correlation(cross, noise[own]))
        out["leak_source"].append(correlation(cross, noise[other]))
        out["leak_same"].append(correlation(restored[f"{own}_same"] - batch[f"{own}_clean"], noise[own]))
    return {key: torch.stack(values).mean(0) for key, values in out.items()}


def correlation(u: Tensor, v: Tensor) -> Tensor:
    """Pearson correlation of two NCHW tensors per image (N,); its real part for complex tensors."""
    u, v = u.flatten(1), v.flatten(1)
    u, v = u - u.mean(1, keepdim=True), v - v.mean(1, keepdim=True)
    inner = (u * v.conj()).sum(1).real if u.is_complex() else (u * v).sum(1)
    return inner / (u.abs().square().sum(1).sqrt() * v.abs().square().sum(1).sqrt()).clamp_min(1e-30)


def findings(metrics: dict[str, float]) -> list[Finding]:
    """Judge the metrics of an evaluation; those that were not measured are left out."""
    findings = []
    if "cross_over_floor" in metrics:
        findings.append(_leak(metrics["cross_over_floor"]))
    if "cross_over_constant" in metrics:
        value = metrics["cross_over_constant"]
        message = f"the cross loss is {value:.2f} times that of the best constant image: {_flatness(value)}"
        findings.append(Finding("flat", value, FLAT, not value > FLAT, message))
    if not math.isnan(metrics.get("latent_spread", math.nan)):
        findings.append(_collapse(metrics["latent_spread"]))
    for name, whose in (("leak_target", "the target's"), ("leak_source", "the source's")):
        if name in metrics:
            value = metrics[name]
            leaks = abs(value) > CORRELATED
            message = f"the cross path's error has correlation {value:.2f} with {whose} noise"
            message += ": noise is copied into the result" if leaks else ""
            findings.append(Finding(name, value, CORRELATED, not leaks, message, absolute=True))
    return findings


def _leak(cross_over_floor: float) -> Finding:
    leaks = cross_over_floor < LEAK_MARGIN
    meaning = (
        "below the floor, the output copies the target's own noise; use cross_domain_strategy no_skip"
        if leaks
        else "it does not undercut the target's noise"
    )
    message = f"the cross loss is {cross_over_floor:.2f} times its noise floor: {meaning}"
    return Finding("leak", cross_over_floor, LEAK_MARGIN, not leaks, message)


def _collapse(latent_spread: float) -> Finding:
    is_collapsed = latent_spread < COLLAPSE
    meaning = (
        "the encoder has collapsed to a constant; a weights.content of 0.05 or more does this, use 0.01 or less"
        if is_collapsed
        else "the latent depends on the image"
    )
    message = f"latents of different slices differ by {latent_spread:.3f} of their magnitude: {meaning}"
    return Finding("collapse", latent_spread, COLLAPSE, not is_collapsed, message)


def _flatness(cross_over_constant: float) -> str:
    """What a cross loss that is this multiple of the best constant image's means."""
    if cross_over_constant <= FLAT:
        return "the cross path predicts an image"
    if cross_over_constant > 1 / FLAT:
        return "worse than a constant: untrained or collapsed"
    return "it has learned a mean, not an image; lower weights.content to 0.01 or less, or use cross_guided"


def _each(distance: Callable[[Tensor, Tensor], Tensor], restored: Tensor, noisy: Tensor) -> Tensor:
    return torch.stack([distance(r[None], x[None]) for r, x in zip(restored, noisy, strict=True)])


def _constant(noisy: Tensor) -> Tensor:
    """The best constant image under an L1 loss: each image's per-channel median at every pixel."""
    parts = torch.view_as_real(noisy) if noisy.is_complex() else noisy[..., None]
    pixels_PK = parts.flatten(2, 3).movedim(-1, 2).flatten(0, 2)
    median_P = lower_medians(pixels_PK)
    median = median_P.view(*parts.shape[:2], 1, 1, -1).expand_as(parts)
    return torch.view_as_complex(median.contiguous()) if noisy.is_complex() else median[..., 0]


def _mean_distances(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference between each row of a and each row of b, (N, M)."""
    return torch.stack([(row - b).abs().mean(1) for row in a])
