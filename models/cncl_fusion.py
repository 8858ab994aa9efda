"""CNCL's last layer: one clean image from the two that its generators give."""

import torch
from torch import Tensor, nn


class CnclFusion(nn.Module):
    """Content (N, C, H, W) and noisy minus noise (N, C, H, W) -> clean (N, C, H, W), by one 1x1 convolution.

    3 parameters with one channel. It starts as the mean of the two. Source: Geng et al., IEEE TMI 41(2), 2022.
    """

    def __init__(self, in_channels: int = 1) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2 * in_channels, in_channels, 1)
        with torch.no_grad():
            self.mix.weight.copy_(0.5 * torch.eye(in_channels).repeat(1, 2)[:, :, None, None])
            self.mix.bias.zero_()  # type: ignore[union-attr]

    def forward(self, content_NCHW: Tensor, complement_NCHW: Tensor) -> Tensor:
        """The fused clean image."""
        return self.mix(torch.cat([content_NCHW, complement_NCHW], dim=1))
