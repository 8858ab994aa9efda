"""U-Net of residual blocks without normalisation, which is fast on CPUs and keeps absolute intensities."""

import itertools

from torch import Tensor, nn

from quell.configs.errors import ConfigError
from quell.configs.sizes import Depths, Width, Widths
from quell.models.blocks.initialization import init_near_identity
from quell.models.blocks.padding import crop_to, pad_to_multiple
from quell.models.blocks.residual import check_residual, residual_blocks


class ResidualUNet(nn.Module):
    """A U-Net of residual blocks, with strided convolutions between its levels and skips that are added.

    Levels are halved by 2x2 convolutions of stride 2 and doubled by transposed ones. Every convolution has a bias and
    none has a norm, because normalisation would lose the brightness of the image. Weights start so small that the
    network is close to the identity (or to zero, without `residual`).

    With two channels and the other defaults: 732,530 parameters, about 0.15 million multiplications per pixel.

    Args:
        in_channels: Channels of the input image.
        out_channels: Channels of the output image.
        widths: Channels of each level, full resolution first.
        blocks: Residual blocks of each level, once on the way down and once on the way up (the last level only once).
        residual: Add the input to the output.

    Shape:
        Input (N, in_channels, H, W) of any H and W; it is padded by reflection to multiples of 2**(levels - 1), and
        the output is cropped back. Output (N, out_channels, H, W), in the units of the input.

    Raises:
        ConfigError: `widths` and `blocks` do not match, or `residual` joins different numbers of channels.

    Source:
        The layout of DRUNet (Zhang et al., Plug-and-Play Image Restoration with Deep Denoiser Prior, IEEE TPAMI 2022),
        thinner and with biases.
    """

    def __init__(
        self,
        in_channels: Width = 1,
        out_channels: Width = 1,
        widths: Widths = (24, 48, 96),
        blocks: Depths = (1, 2, 3),
        residual: bool = True,
    ) -> None:
        super().__init__()
        check_residual(residual, in_channels, out_channels)
        if not widths or len(widths) != len(blocks) or min(*widths, *blocks) < 1:
            raise ConfigError(
                f"residual_unet: widths and blocks need equally many entries, all positive, got {widths}, {blocks}"
            )
        self.residual = residual
        self.head = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(residual_blocks(width, n) for width, n in zip(widths, blocks, strict=True))
        self.halvings = nn.ModuleList(
            nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in itertools.pairwise(widths)
        )
        upwards = list(zip(widths, widths[1:], blocks, strict=False))[::-1]
        self.doublings = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse, _ in upwards)
        self.up = nn.ModuleList(residual_blocks(fine, n) for fine, _, n in upwards)
        self.tail = nn.Conv2d(widths[0], out_channels, 3, padding=1)
        init_near_identity(self, self.tail)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Restore images (N, in_channels, H, W)."""
        x = self.down[0](self.head(pad_to_multiple(image_NCHW, 2 ** len(self.halvings))))
        skips = []
        for halve, blocks in zip(self.halvings, self.down[1:], strict=True):
            skips.append(x)
            x = blocks(halve(x))
        for double, blocks in zip(self.doublings, self.up, strict=True):
            x = blocks(double(x) + skips.pop())
        output = crop_to(self.tail(x), image_NCHW.shape[-2:])
        return image_NCHW + output if self.residual else output
