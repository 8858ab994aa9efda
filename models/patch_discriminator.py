"""PatchGAN critics: one score per patch, in the variants that the OCT denoising methods are published with."""

from typing import Literal, NamedTuple

from torch import Tensor, nn

from configs.errors import DataError
from models.blocks.norms import InstanceNorm2d

Variant = Literal["v1", "v2", "official", "cyclegan"]


class _Table(NamedTuple):
    """What tells the variants apart; the first three convolutions (stride 2, to 4 * width channels) are common."""

    strides: tuple[int, ...]
    """Strides of the convolutions to 8 * width channels."""
    pad: tuple[type[nn.Module], tuple[int, int, int, int]] | None
    """Padding (left, right, top, bottom) that keeps the size of a 4x4 convolution with stride 1."""
    pad_first: bool
    """Pad before such a convolution, or behind it."""
    score_bias: bool


_TABLES = {
    "v1": _Table((2, 1), (nn.ReflectionPad2d, (0, 1, 1, 0)), pad_first=False, score_bias=True),
    "v2": _Table((2, 1), (nn.ZeroPad2d, (1, 0, 1, 0)), pad_first=True, score_bias=True),
    "official": _Table((2,), (nn.ZeroPad2d, (1, 0, 1, 0)), pad_first=True, score_bias=False),
    "cyclegan": _Table((1,), None, pad_first=False, score_bias=True),
}


class PatchDiscriminator(nn.Module):
    """Scores (N, 1, h, w) of overlapping patches of images (N, C, H, W): higher is more real; no final activation.

    All convolutions are 4x4 with padding 1, followed by instance norm without parameters (none after the first) and
    LeakyReLU 0.2. Samples do not mix. With width 64 and one channel:

    | variant | source | parameters | h for H = 640 |
    |---|---|---|---|
    | v1 | TCFL reproduction, version 1: reflection padding behind the last two convolutions | 6,957,505 | 40 |
    | v2 | TCFL reproduction, version 2: zero padding before the last two convolutions | 6,957,505 | 40 |
    | official | TCFL and CNCL (Geng et al., IEEE TMI 2022): no 512 -> 512 convolution | 2,762,688 | 40 |
    | cyclegan | 70x70 PatchGAN (Isola et al., CVPR 2017), also DRGAN's | 2,762,689 | 78 |

    `init_std`: weights are drawn from N(0, init_std), as all these sources do; null keeps torch's own.
    Raises DataError for images smaller than 32 pixels, where the last norm would see a single value.
    """

    def __init__(
        self, in_channels: int = 1, *, variant: Variant = "v2", width: int = 64, init_std: float | None = 0.02
    ) -> None:
        super().__init__()
        table = _TABLES[variant]
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        wide = width
        for factor, stride in ((2, 2), (4, 2), *((8, stride) for stride in table.strides)):
            layers += _sized(nn.Conv2d(wide, factor * width, 4, stride, 1), table)
            layers += [InstanceNorm2d(factor * width), nn.LeakyReLU(0.2)]
            wide = factor * width
        layers += _sized(nn.Conv2d(wide, 1, 4, 1, 1, bias=table.score_bias), table)
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d) and init_std is not None:
                nn.init.normal_(layer.weight, std=init_std)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Patch scores (N, 1, h, w)."""
        height, width = images_NCHW.shape[-2:]
        if min(height, width) < 32:
            raise DataError(f"a critic got images of {height}x{width} pixels, it needs 32 and more: raise data.crop")
        return self.layers(images_NCHW)


def _sized(convolution: nn.Conv2d, table: _Table) -> list[nn.Module]:
    """The convolution, with the variant's padding before or behind it where its stride is 1."""
    if table.pad is None or convolution.stride[0] != 1:
        return [convolution]
    kind, sides = table.pad
    pad = kind(sides)
    return [pad, convolution] if table.pad_first else [convolution, pad]
