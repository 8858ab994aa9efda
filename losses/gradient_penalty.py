"""The penalty that keeps a Wasserstein critic's slope at one."""

import torch
from torch import Tensor, nn

from losses.common.pixel_differences import full_precision


class GradientPenalty(nn.Module):
    """Mean over samples of (|gradient of the critic's mean score| - 1)^2 between a real and a fake image.

    Source: Gulrajani et al., NeurIPS 2017, eq. 3. The score of an image is the mean over its patches. The gradient is
    kept in the graph: a backward pass through the penalty reaches the critic's weights, and never the images.
    """

    def forward(self, critic: nn.Module, real_NCHW: Tensor, fake_NCHW: Tensor, share_N: Tensor) -> Tensor:
        """`share_N` in [0, 1] says how much of the real image is in the point where sample n's slope is taken."""
        share = share_N.view(-1, 1, 1, 1)
        # The slope at one pixel is small and divided by the number of patches: float16 loses it.
        with torch.enable_grad(), torch.autocast(real_NCHW.device.type, enabled=False):
            between = (share * real_NCHW + (1 - share) * fake_NCHW).detach().requires_grad_()
            scores = full_precision(critic(between)).flatten(1).mean(1)
            (gradient,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
        # The square root has no slope at exactly zero; such a critic still has to learn to have one.
        norm_N = (gradient.square().flatten(1).sum(1) + 1e-12).sqrt()
        return (norm_N - 1).square().mean()
