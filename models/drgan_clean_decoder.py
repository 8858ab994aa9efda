"""DRGAN's clean decoder: decodes content as an image without noise."""

from torch import Tensor, nn

from quell.configs.sizes import Depth, Width
from quell.models.blocks.drgan_blocks import StyledResidualBlock, UpPath
from quell.models.blocks.initialization import init_he


class DrganCleanDecoder(nn.Module):
    """G_C: residual blocks with instance norm, then the way up to full resolution.

    With the defaults: 5,920,833 parameters.

    Args:
        out_channels: Channels of the image.
        width: Channels at full resolution; twice and four times as many at half and quarter resolution.
        blocks: Number of residual blocks, at quarter resolution.

    Shape:
        Input: the four feature maps of `DrganContentEncoder`. Output (N, out_channels, H, W) in [-1, 1].

    Source:
        Huang et al., Noise-Powered Disentangled Representation for Unsupervised Speckle Reduction of Optical Coherence
        Tomography Images, IEEE TMI 40(10), 2021.
    """

    def __init__(self, out_channels: Width = 1, *, width: Width = 64, blocks: Depth = 4) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(StyledResidualBlock(4 * width) for _ in range(blocks)))
        self.up_path = UpPath(out_channels, width)
        init_he(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Decode the feature maps of `DrganContentEncoder` as clean images in [-1, 1]."""
        return self.up_path(self.blocks(features[-1]), features[:-1])
