"""DRGAN's clean decoder: an image without noise from a content."""

from torch import Tensor, nn

from models.blocks.drgan import Residual, UpPath, kaiming


class DrganCleanDecoder(nn.Module):
    """G_C: the content encoder's four feature maps -> clean images (N, C, H, W) in [-1, 1].

    Four residual blocks with instance norm, then the up path; 5,920,833 parameters with width 64 and one channel.
    Source: Huang et al., IEEE TMI 40(10), 2021.
    """

    def __init__(self, out_channels: int = 1, *, width: int = 64, blocks: int = 4) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Residual(4 * width) for _ in range(blocks)))
        self.up_path = UpPath(out_channels, width)
        kaiming(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Images in [-1, 1]; `features` as DrganContentEncoder gives them."""
        return self.up_path(self.blocks(features[-1]), features[:-1])
