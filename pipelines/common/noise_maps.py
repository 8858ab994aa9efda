"""Does a noise generator look at its image? One that gives a fixed map satisfies every consistency loss."""

import math

import torch
from torch import Tensor, nn

from pipelines.reporting.checks import Finding

WINDOW_PX = 128
"""Side of the central part of an image that is looked at: enough to see a fixed map, cheap on a large image."""
CONSTANT = 1e-4
"""Share of the images' own variance below which the maps are called the same. Noise of a hundredth of the contrast, far
weaker than any worth removing, gives 1e-4; a published run that collapsed gave 1e-15."""


def variation(generator: nn.Module, noisy_NCHW: Tensor) -> dict[str, Tensor]:
    """Per image (N,): variance of the noise map over different inputs, and the same as a share of the inputs' variance.

    Each image is compared with the batch's next one, or with its own mirror image in a batch of one; the variance over
    the two is averaged over the pixels.
    """
    top, left = (max(0, (size - WINDOW_PX) // 2) for size in noisy_NCHW.shape[-2:])
    part = noisy_NCHW[..., top : top + WINDOW_PX, left : left + WINDOW_PX]
    pair = part if len(part) > 1 else torch.cat([part, part.flip(-1)])
    noise = generator(pair)
    over_maps = _spread(noise)[: len(part)]
    over_images = _spread(pair)[: len(part)]
    return {"noise_variance": over_maps.cpu(), "noise_variance_share": (over_maps / over_images).cpu()}


def findings(metrics: dict[str, float]) -> list[Finding]:
    """The verdict on the means of one evaluation."""
    share = metrics.get("noise_variance_share", math.nan)
    if math.isnan(share):
        return []
    constant = share < CONSTANT
    said = f"over different images the noise map varies by {share:.1e} of what the images do"
    if constant:
        said += (
            ": the generator is constant, it gives one map whatever it sees, and removes no noise; give the "
            "critic more weight (weights.adversarial) or add a separation, and use a batch of more than one"
        )
    return [Finding("constant_generator", share, CONSTANT, not constant, said)]


def _spread(x_NCHW: Tensor) -> Tensor:
    """Variance over each image and its next one, mean over pixels, (N,) float64."""
    difference = (x_NCHW - x_NCHW.roll(-1, dims=0)).double()
    return difference.square().flatten(1).mean(1) / 2
