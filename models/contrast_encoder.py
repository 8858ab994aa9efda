"""The shared encoder of dual-domain Noise2Noise: encodes an image of either contrast as a latent and skips."""

from torch import Tensor, nn

from quell.configs.sizes import Width, Widths
from quell.models.blocks.complex_layers import max_pool2, to_channels, weight_dtype
from quell.models.blocks.contrast_blocks import DoubleConv
from quell.models.blocks.padding import pad_to_multiple


class ContrastEncoder(nn.Module):
    """Contracting half of a U-Net with layer normalisation, which gives a latent and the skips for a decoder.

    Images are padded by reflection to multiples of 2**K, K = len(features) - 1. A decoder that knows the size of the
    image crops back to it. With the defaults and one input channel: 1,210,944 parameters.

    Args:
        in_channels: Channels of the image.
        features: Channels of each level, full resolution first.
        latent_channels: Channels of the latent.
        complex: Use complex64 weights and features. Complex networks cannot run under autocast.

    Attributes:
        skip_channels: Channels of each skip, full resolution first.
        latent_width: Channels of the latent as returned: twice `latent_channels` for complex networks, whose latent is
            laid out as real channels (real parts, then imaginary parts).
        multiple: 2**K, what the sides of a padded image are multiples of.

    Shape:
        Input (N, in_channels, H, W) of any H and W, float or complex64 as `complex` says. Outputs, with H and W after
        padding: latent (N, latent_width, H / 2**K, W / 2**K), always real; list of K skips, the k-th
        (N, features[k], H / 2**k, W / 2**k).

    Source:
        UNetEncoder of "Contrast2Contrast".
    """

    def __init__(
        self,
        in_channels: Width,
        features: Widths = (64, 128, 256),
        latent_channels: Width = 256,
        complex: bool = False,
    ) -> None:
        super().__init__()
        self.complex = complex
        self.skip_channels = tuple(features[:-1])
        self.latent_width = latent_channels * (2 if complex else 1)
        self.multiple = 2 ** len(self.skip_channels)
        widths = zip((in_channels, *features[:-1]), features, strict=True)
        self.levels = nn.ModuleList(DoubleConv(before, after, complex=complex) for before, after in widths)
        self.bottleneck = nn.Conv2d(features[-1], latent_channels, 1, dtype=weight_dtype(complex))

    def forward(self, image_NCHW: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Encode images as (latent, skips)."""
        assert image_NCHW.is_complex() == self.complex, image_NCHW.dtype
        x, skips = pad_to_multiple(image_NCHW, self.multiple), []
        for depth, level in enumerate(self.levels):
            x = level(max_pool2(x) if depth else x)
            skips.append(x)
        return to_channels(self.bottleneck(skips.pop())), skips
