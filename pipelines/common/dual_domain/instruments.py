"""What a dual-domain run must be asked: is it below the noise floor, collapsed, flat, or copying noise?"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from configs.fields import Layout
from losses.common.noise_level import noise_levels
from pipelines.base import Batch
from pipelines.reporting.checks import Finding

LEAK_MARGIN = 0.97
"""Cross loss below this share of the noise floor is a leak (the estimate of sigma is off by less)."""
COLLAPSE = 0.01
"""Between-sample latent distance over mean |z| below which the latent no longer depends on the image."""
FLAT = 0.97
"""Cross loss above this share of the best constant's loss has learned nothing but a mean."""
CORRELATED = 0.3
"""Correlation of residual and noise that is called leakage."""

DOMAINS = ("pd", "pdfs")


def levels(
    batch: Batch, restored: dict[str, Tensor], distance: Callable[[Tensor, Tensor], Tensor], layout: Layout
) -> dict[str, Tensor]:
    """Per image (N,): the cross loss on these images, its noise floor, and the loss of the best constant.

    The floor is the mean modulus of the target's own noise, sum over both domains: sigma sqrt(pi/2) for complex noise
    of sigma per component, sigma sqrt(2/pi) for real noise; sigma by MAD of a wavelet sub-band
    (losses/common/noise_level.py).
    """
    out: dict[str, list[Tensor]] = {"val_cross": [], "floor": [], "constant": []}
    sigmas = {f"sigma_{name}": sigma(batch[name]) for name in DOMAINS}
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
    """Per image (N,): between-sample distance over mean |z|, and matched over mismatched distance.

    The first near zero: the encoder says the same of every image. The second near one: the two contrasts of a slice are
    no closer to each other than to strangers. NaN for a batch of one.
    """
    n = len(z_a)
    if n < 2:
        nothing = torch.full((n,), math.nan)
        return {"latent_spread": nothing, "matched_over_mismatched": nothing}
    a, b = z_a.flatten(1).double(), z_b.flatten(1).double()
    other = torch.ones(n, n, dtype=torch.bool, device=a.device).fill_diagonal_(False)
    within, across = _mean_distances(a, a), _mean_distances(a, b)
    spread = torch.stack([within[i][other[i]].mean() for i in range(n)]) / a.abs().mean(1).clamp_min(1e-30)
    strangers = torch.stack([across[i][other[i]].mean() for i in range(n)])
    matched = across.diagonal() / strangers.clamp_min(1e-30)
    return {"latent_spread": spread.cpu(), "matched_over_mismatched": matched.cpu()}


def leakage(batch: Batch, restored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Per image (N,): correlation of (restored - clean) with the target's and the source's noise, mean of both domains.

    `leak_target` and `leak_source` belong to the cross path, `leak_same` is the own path with its own noise; empty
    where the clean images are not known.
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
    """Pearson correlation of two NCHW tensors per image, (N,); the real part for complex ones."""
    u, v = u.flatten(1), v.flatten(1)
    u, v = u - u.mean(1, keepdim=True), v - v.mean(1, keepdim=True)
    inner = (u * v.conj()).sum(1).real if u.is_complex() else (u * v).sum(1)
    return (inner / (u.abs().square().sum(1).sqrt() * v.abs().square().sum(1).sqrt()).clamp_min(1e-30)).cpu()


def sigma(noisy: Tensor) -> Tensor:
    """Noise level of each image by MAD, per component for complex and two-channel data, (N,) float64."""
    return torch.from_numpy(noise_levels(noisy.cpu().numpy()))


def findings(metrics: dict[str, float]) -> list[Finding]:
    """The verdicts on one evaluation's means; a value that was not measured gives none."""
    found = []

    def judge(name: str, value: float, threshold: float, bad: bool, said: str, *, problem: str, ok: str) -> None:
        found.append(Finding(name, value, threshold, not bad, said + (problem if bad else ok)))

    if "cross_over_floor" in metrics:
        value = metrics["cross_over_floor"]
        judge(
            "leak",
            value,
            LEAK_MARGIN,
            value < LEAK_MARGIN,
            f"cross loss is {value:.2f} of its noise floor: ",
            problem="below the floor the output copies the target's own noise; use cross_domain_strategy no_skip",
            ok="it does not undercut the target's noise",
        )
    if "cross_over_constant" in metrics:
        value = metrics["cross_over_constant"]
        said = f"cross loss is {value:.2f} of what the best constant gets: {_flatness(value)}"
        judge("flat", value, FLAT, value > FLAT, said, problem="", ok="")
    if not math.isnan(metrics.get("latent_spread", math.nan)):
        value = metrics["latent_spread"]
        judge(
            "collapse",
            value,
            COLLAPSE,
            value < COLLAPSE,
            f"latents of different slices differ by {value:.3f} of their size: ",
            problem="the encoder has collapsed to a constant; weights.content 0.05 and more does this, use 0.01 or "
            "less",
            ok="the latent depends on the image",
        )
    for key, what in (("leak_target", "the target's"), ("leak_source", "the source's")):
        if key in metrics:
            value = metrics[key]
            judge(
                key,
                value,
                CORRELATED,
                abs(value) > CORRELATED,
                f"the cross path's error correlates {value:.2f} with {what} noise",
                problem=": noise is copied into the result",
                ok="",
            )
    return found


def _flatness(value: float) -> str:
    """What a cross loss means that is `value` times the best constant's."""
    if value <= FLAT:
        return "the cross path predicts an image"
    if value > 1 / FLAT:
        return "worse than a constant: untrained, or collapsed"
    return "it has learned a mean, no image; lower weights.content to 0.01 or less, or use cross_guided"


def _each(distance: Callable[[Tensor, Tensor], Tensor], restored: Tensor, noisy: Tensor) -> Tensor:
    return torch.stack([distance(r[None], x[None]).double().cpu() for r, x in zip(restored, noisy, strict=True)])


def _constant(noisy: Tensor) -> Tensor:
    """The per-channel median of each image, spread over its pixels: the best constant for an L1 loss."""
    parts = torch.view_as_real(noisy) if noisy.is_complex() else noisy[..., None]
    median = parts.flatten(2, 3).median(dim=2).values[:, :, None, None].expand_as(parts)
    return torch.view_as_complex(median.contiguous()) if noisy.is_complex() else median[..., 0]


def _mean_distances(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference between every row of a and every row of b, (N, M)."""
    return torch.stack([(row - b).abs().mean(1) for row in a])
