"""The shared encoder of dual-domain Noise2Noise: an image of either contrast to a latent and its skips."""

from torch import Tensor, nn

from models.blocks.complex import max_pool2, to_channels, weight_dtype
from models.blocks.contrast import DoubleConv
from models.blocks.padding import pad_to_multiple


class ContrastEncoder(nn.Module):
    """Image to (latent, skips), the contracting half of a U-Net with group normalisation.

    `forward(image_NCHW) -> (latent, [skip_0, skip_1, ...])`: skip_k is (N, features[k], H / 2**k, W / 2**k), the latent
    (N, latent_width, H / 2**K, W / 2**K) with K = len(features) - 1, where H and W are the image's sizes grown by
    reflection to a multiple of `multiple` = 2**K; give the decoder the image's own size and it crops back.
    `latent_width` is `latent_channels`, or twice that for complex networks, whose latent is always real (real parts,
    then imaginary parts). Complex: complex64 in, complex64 skips, complex64 convolutions; not usable under autocast.

    With the defaults and one input channel: 1,210,944 parameters. Source: UNetEncoder of "Contrast2Contrast".
    """

    def __init__(
        self,
        in_channels: int,
        features: tuple[int, ...] = (64, 128, 256),
        latent_channels: int = 256,
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
        """Latent and skips of an image; shapes as in the class."""
        assert image_NCHW.is_complex() == self.complex, image_NCHW.dtype
        x, skips = pad_to_multiple(image_NCHW, self.multiple), []
        for depth, level in enumerate(self.levels):
            x = level(max_pool2(x) if depth else x)
            skips.append(x)
        return to_channels(self.bottleneck(skips.pop())), skips
