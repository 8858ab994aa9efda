"""Content with variance and covariance terms: latents must agree, vary, and not say the same thing twice."""

import torch
from torch import Tensor, nn

from losses.common.pixel_differences import checked_pair

FLOOR = 1e-4
"""Added to variances under the square root."""


class Vicreg(nn.Module):
    """mean (z_a - z_b)^2 + `variance` x mean max(0, 1 - std) + `covariance` x sum of squared covariances / C.

    The standard deviation of each of the C channels, and the covariance of each two different ones, are taken over all
    positions of all samples of the batch (of one process), and averaged over both latents (the paper adds them up). The
    weights are the published 25 : 25 : 1. Source: Bardes, Ponce and LeCun, VICReg, ICLR 2022.
    """

    def __init__(self, variance: float = 1.0, covariance: float = 0.04) -> None:
        super().__init__()
        self.variance, self.covariance = variance, covariance

    def forward(self, z_a_NCHW: Tensor, z_b_NCHW: Tensor) -> Tensor:
        """The three terms of two latents of one shape, a scalar."""
        with torch.autocast(z_a_NCHW.device.type, enabled=False):  # covariances overflow in half precision
            return self._total(*checked_pair(z_a_NCHW, z_b_NCHW))

    def _total(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        total = (z_a - z_b).square().mean()
        for z in (z_a, z_b):
            rows = z.transpose(0, 1).flatten(1)
            rows = rows - rows.mean(dim=1, keepdim=True)
            covariances = rows @ rows.T / max(rows.shape[1] - 1, 1)
            variances = covariances.diagonal()
            spread = (1 - (variances + FLOOR).sqrt()).clamp_min(0).mean()
            apart = (covariances.square().sum() - variances.square().sum()) / len(covariances)
            total = total + (self.variance * spread + self.covariance * apart) / 2
        return total
