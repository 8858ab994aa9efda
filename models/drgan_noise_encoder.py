"""DRGAN's noise encoder: describes the noise of an image by a short vector."""

from torch import Tensor, nn

from quell.configs.sizes import Width
from quell.models.blocks.drgan_blocks import ConvNormReLU
from quell.models.blocks.initialization import init_he


class DrganNoiseEncoder(nn.Module):
    """E_N: conv7 and two conv4 of stride 2 with instance norm, the mean over all pixels, a 1x1 convolution.

    With the defaults: 661,000 parameters.

    Args:
        in_channels: Channels of the image.
        width: Channels at full resolution; twice and four times as many at half and quarter resolution.
        code_channels: Length of the code.

    Shape:
        Input (N, in_channels, H, W) in [-1, 1]. Output (N, code_channels).

    Source:
        Huang et al., IEEE TMI 40(10), 2021.
    """

    def __init__(self, in_channels: Width = 1, *, width: Width = 64, code_channels: Width = 8) -> None:
        super().__init__()
        self.features = nn.Sequential(
            ConvNormReLU(in_channels, width, 7),
            ConvNormReLU(width, 2 * width, 4, 2),
            ConvNormReLU(2 * width, 4 * width, 4, 2),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.code = nn.Conv2d(4 * width, code_channels, 1)
        init_he(self)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Encode the noise of each image."""
        return self.code(self.pool(self.features(images_NCHW))).flatten(1)
