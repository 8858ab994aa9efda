"""PatchGAN critics, one score per patch, in the variants that the OCT denoising methods were published with."""

from typing import Literal, NamedTuple

from torch import Tensor, nn

from quell.configs.errors import DataError
from quell.configs.sizes import Deviation, Width
from quell.models.blocks.axis_maps import ReflectionPad2d
from quell.models.blocks.initialization import init_he, init_normal
from quell.models.blocks.norms import InstanceNorm2d

Variant = Literal["v1", "v2", "official", "official_biased", "cyclegan"]


class _Variant(NamedTuple):
    """What distinguishes a variant; all share the first three convolutions (stride 2, to 4 * width channels)."""

    strides: tuple[int, ...]
    """Strides of the convolutions to 8 * width channels."""
    pad: tuple[type[nn.Module], tuple[int, int, int, int]] | None
    """Layer and widths (left, right, top, bottom) of the padding that keeps the size where the stride is 1."""
    pad_first: bool
    """Whether this padding comes before the convolution or after it."""
    score_bias: bool
    """Whether the last convolution has a bias."""


_VARIANTS = {
    "v1": _Variant((2, 1), (ReflectionPad2d, (0, 1, 1, 0)), pad_first=False, score_bias=True),
    "v2": _Variant((2, 1), (nn.ZeroPad2d, (1, 0, 1, 0)), pad_first=True, score_bias=True),
    "official": _Variant((2,), (nn.ZeroPad2d, (1, 0, 1, 0)), pad_first=True, score_bias=False),
    "official_biased": _Variant((2,), (nn.ZeroPad2d, (1, 0, 1, 0)), pad_first=True, score_bias=True),
    "cyclegan": _Variant((1,), None, pad_first=False, score_bias=True),
}


class PatchDiscriminator(nn.Module):
    """A stack of 4x4 convolutions that scores overlapping patches: higher is more real, no final activation.

    Each convolution is followed by instance norm without parameters (not the first) and LeakyReLU 0.2 (not the last).
    Instance norm keeps the samples of a batch independent. With width 64 and one channel:

    | variant | source | parameters | h for H = 640 |
    |---|---|---|---|
    | v1 | TCFL reproduction, version 1: reflection padding after the last two convolutions | 6,957,505 | 40 |
    | v2 | TCFL reproduction, version 2: zero padding before the last two convolutions | 6,957,505 | 40 |
    | official | TCFL and CNCL (Geng et al., IEEE TMI 2022): no 512 -> 512 convolution | 2,762,688 | 40 |
    | official_biased | TCFL reproduction, last version: `official` with a bias on the scores | 2,762,689 | 40 |
    | cyclegan | 70x70 PatchGAN (Isola et al., CVPR 2017), also DRGAN's | 2,762,689 | 78 |

    Args:
        in_channels: Channels of the images; images that are judged together are concatenated.
        variant: Name from the table.
        width: Channels after the first convolution.
        init_std: Standard deviation to draw weights with, 0.02 in all these sources but DRGAN, whose critics start as
            its generators do (`he`, variance 2 / fan_in); null keeps torch's initialisation.

    Shape:
        Input (N, in_channels, H, W), H and W at least 32 (`v1`: 48, for its reflection padding). Output
        (N, 1, h, w), about H / 16 a side (`cyclegan`: H / 8).

    Raises:
        DataError: In `forward`, for images below 32 px a side, where the last norm would see a single value.

    Source:
        Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017, and the table.
    """

    def __init__(
        self,
        in_channels: Width = 1,
        *,
        variant: Variant = "v2",
        width: Width = 64,
        init_std: Deviation | Literal["he"] | None = 0.02,
    ) -> None:
        super().__init__()
        layout = _VARIANTS[variant]
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        channels = width
        for factor, stride in ((2, 2), (4, 2), *((8, stride) for stride in layout.strides)):
            layers += _with_padding(nn.Conv2d(channels, factor * width, 4, stride, 1), layout)
            layers += [InstanceNorm2d(factor * width), nn.LeakyReLU(0.2)]
            channels = factor * width
        layers += _with_padding(nn.Conv2d(channels, 1, 4, 1, 1, bias=layout.score_bias), layout)
        self.layers = nn.Sequential(*layers)
        if init_std == "he":
            init_he(self)
        elif init_std is not None:
            init_normal(self, init_std)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Score the patches of images (N, in_channels, H, W)."""
        height, width = images_NCHW.shape[-2:]
        if min(height, width) < 32:
            raise DataError(
                f"patch_discriminator: images must be at least 32x32 px, got {height}x{width}: raise data.crop"
            )
        return self.layers(images_NCHW)


def _with_padding(convolution: nn.Conv2d, layout: _Variant) -> list[nn.Module]:
    """A convolution; if its stride is 1, with the variant's padding before or after it."""
    if layout.pad is None or convolution.stride[0] != 1:
        return [convolution]
    padding_layer, widths = layout.pad
    pad = padding_layer(widths)
    return [pad, convolution] if layout.pad_first else [convolution, pad]
