"""A decoder of dual-domain Noise2Noise: decodes a latent as an image of one contrast."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from quell.configs.errors import ConfigError
from quell.configs.sizes import Width, Widths
from quell.models.blocks.complex_layers import from_channels, weight_dtype
from quell.models.blocks.contrast_blocks import UpBlock
from quell.models.blocks.padding import crop_to


class ContrastDecoder(nn.Module):
    """Expanding half of a U-Net with layer normalisation.

    Skips narrower than the decoder's own features count as padded with zero channels. The original concatenated them as
    they were, so that its decoder of features (512, 256, 128) could not run on the skips of an encoder of features
    (64, 128, 256). Here it runs, with the number of parameters that was declared for it.

    With the defaults and one output channel: 783,617 parameters; with features (512, 256, 128) and a latent of 512
    channels: 3,131,905.

    Args:
        out_channels: Channels of the image.
        features: Channels of each level, coarsest first; all but the last level double the size.
        latent_channels: Channels of the latent, before a complex one is laid out as real channels.
        complex: Use complex64 weights and features, for the latent and skips of a complex encoder.
        identity_mapping: Start with every parameter at zero and add the noisy image to the output. This reproduces a
            documented broken start and is here for that only: with all features at zero, nothing but the bias of the
            last convolution ever receives a gradient.
        skip_channels: Channels of the encoder's skips, full resolution first, to check that they fit.

    Shape:
        Input latent (N, latent_channels, h, w), twice the channels for complex networks; skips as the encoder returns
        them. Output (N, out_channels, H, W), where H and W are 2**K times the latent's, K = len(features) - 1, or the
        size they are cropped to.

    Raises:
        ConfigError: `skip_channels` do not fit `features`.

    Source:
        UNetADecoder and UNetBDecoder of "Contrast2Contrast".
    """

    def __init__(
        self,
        out_channels: Width,
        features: Widths = (256, 128, 64),
        latent_channels: Width = 256,
        complex: bool = False,
        identity_mapping: bool = False,
        skip_channels: Widths | None = None,
    ) -> None:
        super().__init__()
        self.complex = complex
        self.identity_mapping = identity_mapping
        dtype = weight_dtype(complex)
        self.expand = nn.Conv2d(latent_channels, features[0], 1, dtype=dtype)
        self.ups = nn.ModuleList(UpBlock(before, after, complex=complex) for before, after in pairwise(features))
        self.outc = nn.Conv2d(features[-1], out_channels, 1, dtype=dtype)
        if skip_channels is not None:
            _check_skips(skip_channels, features)
        if identity_mapping:
            with torch.no_grad():
                for parameter in self.parameters():
                    parameter.zero_()

    def forward(
        self,
        latent_NLhw: Tensor,
        skips: list[Tensor] | None = None,
        identity_NCHW: Tensor | None = None,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """Decode a latent.

        Args:
            latent_NLhw: Latent of the encoder.
            skips: Skips of the encoder, full resolution first; None counts as zeros.
            identity_NCHW: Noisy image (N, out_channels, H, W), added to the output under `identity_mapping`.
            size: Height and width to crop to; by default those of `identity_NCHW`, if given.

        Returns:
            Images (N, out_channels, H, W).
        """
        coarse_first = [None] * len(self.ups) if skips is None else skips[::-1]
        x = self.expand(from_channels(latent_NLhw) if self.complex else latent_NLhw)
        for up, skip in zip(self.ups, coarse_first, strict=True):
            x = up(x, skip)
        x = self.outc(x)
        if size is None and identity_NCHW is not None:
            size = (identity_NCHW.shape[-2], identity_NCHW.shape[-1])
        if size is not None:
            x = crop_to(x, size)
        return x + identity_NCHW if self.identity_mapping and identity_NCHW is not None else x


def _check_skips(skip_channels: tuple[int, ...], features: tuple[int, ...]) -> None:
    """Raise ConfigError unless there is a skip for each doubling, none wider than its share of the concatenation."""
    limits = [width - width // 2 for width in features[:-1]]
    coarse_first = list(skip_channels[::-1])
    if len(coarse_first) != len(limits):
        raise ConfigError(
            f"a decoder of features {features} doubles the size {len(limits)} times, but its encoder halves it "
            f"{len(coarse_first)} times: give both the same number of features"
        )
    if any(channels > limit for channels, limit in zip(coarse_first, limits, strict=True)):
        raise ConfigError(
            f"a decoder of features {features} takes skips of at most {tuple(limits)} channels, coarsest first, but "
            f"its encoder gives {tuple(coarse_first)}: make the decoder's features at least twice as wide"
        )
