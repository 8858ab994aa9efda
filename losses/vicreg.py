"""Content with variance and covariance terms: latents must agree, vary, and use all their channels."""

import torch
from torch import Tensor, nn

from quell.configs.sizes import Real
from quell.losses.common.pixel_differences import comparable_pair

FLOOR = 1e-4
"""Added to variances under the square root, as in the paper; keeps the gradient finite for constant channels."""


class Vicreg(nn.Module):
    """mean (z_a - z_b)^2 + `variance` x mean max(0, 1 - std) + `covariance` x sum of squared covariances / C.

    The standard deviation of each of the C channels, and the covariance of each pair of different channels, are over
    all positions of all samples on the same rank, and averaged over both latents (the paper adds the two up).

    Args:
        variance: Weight of the variance term, relative to the paper's 25 : 25 : 1.
        covariance: Weight of the covariance term, likewise.

    Shape:
        Inputs (N, C, H, W) of equal shape. Output: scalar in [0, inf), in squared units of the latents.

    Source:
        Bardes, Ponce and LeCun, VICReg: Variance-Invariance-Covariance Regularization, ICLR 2022.
    """

    def __init__(self, variance: Real = 1.0, covariance: Real = 0.04) -> None:
        super().__init__()
        self.variance, self.covariance = variance, covariance

    def forward(self, z_a_NCHW: Tensor, z_b_NCHW: Tensor) -> Tensor:
        """Compare the latents of two images; gradients flow into both."""
        with torch.autocast(z_a_NCHW.device.type, enabled=False):  # covariances overflow in half precision
            return self._total(*comparable_pair(z_a_NCHW, z_b_NCHW))

    def _total(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """Invariance, variance and covariance terms, weighted and added."""
        total = (z_a - z_b).square().mean()
        for z in (z_a, z_b):
            channels = z.transpose(0, 1).flatten(1)
            channels = channels - channels.mean(dim=1, keepdim=True)
            covariances = channels @ channels.T / max(channels.shape[1] - 1, 1)
            variances = covariances.diagonal()
            variance_term = (1 - (variances + FLOOR).sqrt()).clamp_min(0).mean()
            covariance_term = (covariances.square().sum() - variances.square().sum()) / len(covariances)
            total = total + (self.variance * variance_term + self.covariance * covariance_term) / 2
        return total
