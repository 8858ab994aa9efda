"""Does the output of a noise generator depend on its input? A constant generator satisfies every consistency loss."""

import math

import torch
from torch import Tensor, nn

from quell.losses.common.pixel_differences import full_precision
from quell.pipelines.reporting.checks import Finding
from quell.pipelines.reporting.columns import ReportColumn

WINDOW_PX = 128
"""Side of the central window that is measured: enough to detect a constant map, cheap for large images."""
CONSTANT = 1e-4
"""Variance of the noise maps over that of the images below which the generator counts as constant. Noise of a hundredth
of the contrast, far weaker than any worth removing, gives 1e-4; a collapsed run of a published method gave 1e-15."""

REPORT_COLUMNS = (
    ReportColumn(
        "noise_variance_share",
        "maps/images",
        note=f"maps/images: variance of the noise maps of different images over that of the images; below {CONSTANT:g} "
        "the generator is constant.",
    ),
)


def variation(generator: nn.Module, noisy_NCHW: Tensor) -> dict[str, Tensor]:
    """Per image (N,): variance of the noise map between different inputs, and its ratio to the inputs' variance.

    Each image is compared with the next one of the batch, or in a batch of one with its mirror image; the variance
    between the two is averaged over pixels.
    """
    top, left = (max(0, (size - WINDOW_PX) // 2) for size in noisy_NCHW.shape[-2:])
    window = noisy_NCHW[..., top : top + WINDOW_PX, left : left + WINDOW_PX]
    images = window if len(window) > 1 else torch.cat([window, window.flip(-1)])
    of_maps = _variance_between(generator(images))[: len(window)]
    of_images = _variance_between(images)[: len(window)]
    return {"noise_variance": of_maps, "noise_variance_share": of_maps / of_images}


def findings(metrics: dict[str, float]) -> list[Finding]:
    """Whether the generator is constant, from the means of one evaluation."""
    share = metrics.get("noise_variance_share", math.nan)
    if math.isnan(share):
        return []
    is_constant = share < CONSTANT
    message = f"between different images the noise map varies by {share:.1e} of the images' own variance"
    if is_constant:
        message += (
            ": the generator is constant, it predicts the same map for every image and removes no noise; give the "
            "critic more weight (weights.adversarial) or add a separation, and use a batch size above 1"
        )
    return [Finding("constant_generator", share, CONSTANT, not is_constant, message)]


def _variance_between(x_NCHW: Tensor) -> Tensor:
    """Variance between each image and the next one, averaged over pixels, (N,)."""
    difference = full_precision(x_NCHW - x_NCHW.roll(-1, dims=0))
    return difference.square().flatten(1).mean(1) / 2
