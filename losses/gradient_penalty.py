"""The penalty that keeps the slope of a Wasserstein critic at one."""

import torch
from torch import Tensor, nn

from quell.losses.common.pixel_differences import full_precision


class GradientPenalty(nn.Module):
    """Mean over samples of (|g| - 1)^2, g the gradient of an image's score at a point between a real and a fake image.

    The score of an image is the mean over its patches. The gradient stays in the graph, so a backward pass through the
    penalty reaches the critic's weights (this needs second derivatives of all its layers), but never the images.

    Shape:
        Real and fake images (N, C, H, W), shares (N,). Output: scalar in [0, inf).

    Source:
        Gulrajani et al., Improved Training of Wasserstein GANs, NeurIPS 2017, equation 3.
    """

    def forward(self, critic: nn.Module, real_NCHW: Tensor, fake_NCHW: Tensor, share_N: Tensor) -> Tensor:
        """Penalise a critic.

        Args:
            critic: Module that scores images; it is called once.
            real_NCHW: Real images.
            fake_NCHW: Generated images.
            share_N: Share in [0, 1] of the real image in each sample's point, uniform in the source.
        """
        share = share_N.view(-1, 1, 1, 1)
        # The slope at a single pixel is small and divided by the number of patches: float16 loses it.
        with torch.enable_grad(), torch.autocast(real_NCHW.device.type, enabled=False):
            between = (share * real_NCHW + (1 - share) * fake_NCHW).detach().requires_grad_()
            scores = full_precision(critic(between)).flatten(1).mean(1)
            (gradient,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
        # The square root has no gradient at zero, from which a critic without any slope must still be able to learn.
        norm_N = (gradient.square().flatten(1).sum(1) + 1e-12).sqrt()
        return (norm_N - 1).square().mean()
