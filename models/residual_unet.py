"""U-Net of residual blocks without normalisation: fast on CPUs, and faithful to intensities."""

import itertools

from torch import Tensor, nn

from configs.errors import ConfigError
from models.blocks.padding import crop_to, pad_to_multiple
from models.blocks.residual import check_residual
from models.blocks.residual_blocks import draw_weights, level


class ResidualUNet(nn.Module):
    """Image (N, in, H, W) to image (N, out, H, W), any H and W (grown by reflection to a multiple, cropped back).

    One level per entry of `widths`, full resolution first, of `blocks[level]` residual blocks (3x3 convolution, ReLU,
    3x3 convolution, added to their input) on the way down and as many on the way up; the last level's only once.
    Levels are halved by 2x2 convolutions of stride 2 and doubled by their transposes; skips are added. All with bias,
    none with a norm: a restoration must not forget how bright its image was. `residual`: image + output.

    Two channels, the defaults: 732,530 parameters, about 0.15 million multiplications a pixel.
    The layout is that of DRUNet (Zhang et al., IEEE TPAMI 2022), thinner, with biases.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        widths: tuple[int, ...] = (24, 48, 96),
        blocks: tuple[int, ...] = (1, 2, 3),
        residual: bool = True,
    ) -> None:
        super().__init__()
        check_residual(residual, in_channels, out_channels)
        if not widths or len(widths) != len(blocks) or min(*widths, *blocks) < 1:
            raise ConfigError(f"residual_unet: each width needs its positive number of blocks, not {widths}, {blocks}")
        self.residual = residual
        self.head = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(level(width, n) for width, n in zip(widths, blocks, strict=True))
        self.halvings = nn.ModuleList(
            nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in itertools.pairwise(widths)
        )
        upwards = list(zip(widths, widths[1:], blocks, strict=False))[::-1]
        self.doublings = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse, _ in upwards)
        self.up = nn.ModuleList(level(fine, n) for fine, _, n in upwards)
        self.tail = nn.Conv2d(widths[0], out_channels, 3, padding=1)
        draw_weights(self, self.tail)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """The restored image, (N, out, H, W)."""
        x = self.down[0](self.head(pad_to_multiple(image_NCHW, 2 ** len(self.halvings))))
        skips = []
        for halve, blocks in zip(self.halvings, self.down[1:], strict=True):
            skips.append(x)
            x = blocks(halve(x))
        for double, blocks in zip(self.doublings, self.up, strict=True):
            x = blocks(double(x) + skips.pop())
        output = crop_to(self.tail(x), image_NCHW.shape[-2:])
        return image_NCHW + output if self.residual else output
