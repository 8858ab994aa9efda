"""DRGAN's content encoder: what an OCT image shows, without its noise."""

from torch import Tensor, nn

from configs.errors import DataError
from models.blocks.drgan import Convolution, Residual, kaiming


class DrganContentEncoder(nn.Module):
    """E_C: images (N, C, H, W) -> features at full, half, quarter resolution and the content (N, 4 * width, H/4, W/4).

    conv7, two strided conv4, four residual blocks, all with instance norm and reflect padding; 5,379,584 parameters
    with width 64 and one channel. Source: Huang et al., IEEE TMI 40(10), 2021.
    Height and width must be multiples of 4: DataError otherwise.
    """

    def __init__(self, in_channels: int = 1, *, width: int = 64, blocks: int = 4) -> None:
        super().__init__()
        self.to_full = Convolution(in_channels, width, 7)
        self.to_half = Convolution(width, 2 * width, 4, 2)
        self.to_quarter = Convolution(2 * width, 4 * width, 4, 2)
        self.blocks = nn.Sequential(*(Residual(4 * width) for _ in range(blocks)))
        kaiming(self)

    def forward(self, images_NCHW: Tensor) -> list[Tensor]:
        """The four feature maps, full resolution first; the last one is the content."""
        height, width = images_NCHW.shape[-2:]
        if height % 4 or width % 4:
            raise DataError(f"DRGAN needs sides that are multiples of 4, got {height}x{width}: set data.crop to one")
        full = self.to_full(images_NCHW)
        half = self.to_half(full)
        quarter = self.to_quarter(half)
        return [full, half, quarter, self.blocks(quarter)]
