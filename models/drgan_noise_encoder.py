"""DRGAN's noise encoder: the style of an image's noise as a short vector."""

from torch import Tensor, nn

from models.blocks.drgan import Convolution, kaiming


class DrganNoiseEncoder(nn.Module):
    """E_N: images (N, C, H, W) -> noise codes (N, code_channels); 661,000 parameters with width 64 and one channel.

    conv7, two strided conv4 with instance norm, mean over all pixels, conv1x1.
    Source: Huang et al., IEEE TMI 40(10), 2021.
    """

    def __init__(self, in_channels: int = 1, *, width: int = 64, code_channels: int = 8) -> None:
        super().__init__()
        self.features = nn.Sequential(
            Convolution(in_channels, width, 7),
            Convolution(width, 2 * width, 4, 2),
            Convolution(2 * width, 4 * width, 4, 2),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.code = nn.Conv2d(4 * width, code_channels, 1)
        kaiming(self)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Noise codes (N, code_channels)."""
        return self.code(self.pool(self.features(images_NCHW))).flatten(1)
