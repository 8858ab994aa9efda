"""CNCL's last layer: fuse the two clean images that its generators predict into one."""

import torch
from torch import Tensor, nn

from quell.configs.sizes import Width


class CnclFusion(nn.Module):
    """Fuse the content generator's image with the noisy image minus the predicted noise, by a 1x1 convolution.

    The convolution starts as the mean of the two. With one channel it has 3 parameters.

    Args:
        in_channels: Channels C of each of the two images.

    Shape:
        Inputs (N, C, H, W) twice, in the same units. Output (N, C, H, W), in these units.

    Source:
        Geng et al., Content-Noise Complementary Learning for Medical Image Denoising, IEEE TMI 41(2), 2022.
    """

    def __init__(self, in_channels: Width = 1) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2 * in_channels, in_channels, 1)
        with torch.no_grad():
            for half in self.mix.weight.chunk(2, dim=1):
                nn.init.dirac_(half).mul_(0.5)
            assert self.mix.bias is not None
            self.mix.bias.zero_()

    def forward(self, content_NCHW: Tensor, complement_NCHW: Tensor) -> Tensor:
        """Fuse the predicted content with its complement, the noisy image minus the predicted noise."""
        return self.mix(torch.cat([content_NCHW, complement_NCHW], dim=1))
