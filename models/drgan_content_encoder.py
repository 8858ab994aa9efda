"""DRGAN's content encoder: what an OCT image shows, without its noise."""

from torch import Tensor, nn

from quell.configs.errors import DataError
from quell.configs.sizes import Depth, Width
from quell.models.blocks.drgan_blocks import ConvNormReLU, StyledResidualBlock
from quell.models.blocks.initialization import init_he


class DrganContentEncoder(nn.Module):
    """E_C: conv7, two conv4 of stride 2 and residual blocks, all with instance norm and reflection padding.

    With the defaults: 5,379,584 parameters.

    Args:
        in_channels: Channels of the image.
        width: Channels at full resolution; twice and four times as many at half and quarter resolution.
        blocks: Number of residual blocks, at quarter resolution.

    Shape:
        Input (N, in_channels, H, W) in [-1, 1], H and W multiples of 4. Outputs (N, width, H, W),
        (N, 2 * width, H/2, W/2), (N, 4 * width, H/4, W/4), and the content, of the last shape again.

    Raises:
        DataError: In `forward`, if H or W is not a multiple of 4.

    Source:
        Huang et al., IEEE TMI 40(10), 2021.
    """

    def __init__(self, in_channels: Width = 1, *, width: Width = 64, blocks: Depth = 4) -> None:
        super().__init__()
        self.to_full = ConvNormReLU(in_channels, width, 7)
        self.to_half = ConvNormReLU(width, 2 * width, 4, 2)
        self.to_quarter = ConvNormReLU(2 * width, 4 * width, 4, 2)
        self.blocks = nn.Sequential(*(StyledResidualBlock(4 * width) for _ in range(blocks)))
        init_he(self)

    def forward(self, images_NCHW: Tensor) -> list[Tensor]:
        """Encode images as four feature maps, full resolution first; the last one is the content."""
        height, width = images_NCHW.shape[-2:]
        if height % 4 or width % 4:
            raise DataError(f"drgan needs sides that are multiples of 4, got {height}x{width}: set data.crop to one")
        full = self.to_full(images_NCHW)
        half = self.to_half(full)
        quarter = self.to_quarter(half)
        return [full, half, quarter, self.blocks(quarter)]
