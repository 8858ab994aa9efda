"""A decoder of dual-domain Noise2Noise: a latent to an image of one contrast."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from configs.errors import ConfigError
from models.blocks.complex import from_channels, weight_dtype
from models.blocks.contrast import Up
from models.blocks.padding import crop_to


class ContrastDecoder(nn.Module):
    """(latent, skips or None, identity or None) to an image, the expanding half of a U-Net with group normalisation.

    `forward(latent_NLhw, skips=None, identity_NCHW=None, size=None)`: skips as the encoder gave them, finest first, or
    None for zeros in their place. The image is cropped to `size` (height, width), else to the identity's size, else it
    is 2**K times the latent. Complex networks take the encoder's real latent of 2 * latent_channels, give complex64.

    Skips narrower than the decoder's own features are taken as if padded with zero channels. The original concatenated
    them as they came, so its decoder of features (512, 256, 128) could not be run with the skips of the encoder's
    (64, 128, 256); here it can, with the parameter count it was declared with. `skip_channels`, where given, are the
    encoder's: skips wider than the decoder can take are then refused at once.

    `identity_mapping` rebuilds a documented broken start and is here for that only: every parameter begins at zero and
    the noisy `identity` is added to the output. As all features are zero, nothing but the last bias ever learns.

    With the defaults and one output channel 783,617 parameters; features (512, 256, 128), latent 512: 3,131,905.
    Source: UNetADecoder / UNetBDecoder of "Contrast2Contrast".
    """

    def __init__(
        self,
        out_channels: int,
        features: tuple[int, ...] = (256, 128, 64),
        latent_channels: int = 256,
        complex: bool = False,
        identity_mapping: bool = False,
        skip_channels: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.complex = complex
        self.identity_mapping = identity_mapping
        dtype = weight_dtype(complex)
        self.expand = nn.Conv2d(latent_channels, features[0], 1, dtype=dtype)
        self.ups = nn.ModuleList(Up(before, after, complex=complex) for before, after in pairwise(features))
        self.outc = nn.Conv2d(features[-1], out_channels, 1, dtype=dtype)
        if skip_channels is not None:
            _refuse_skips(skip_channels, features)
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
        """The image of a latent; shapes as in the class."""
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


def _refuse_skips(skip_channels: tuple[int, ...], features: tuple[int, ...]) -> None:
    """ConfigError unless one skip per doubling is given and none is wider than the concatenation's share for it."""
    room = [width - width // 2 for width in features[:-1]]
    wanted = list(skip_channels[::-1])
    if len(wanted) != len(room):
        raise ConfigError(
            f"a decoder of features {features} doubles the size {len(room)} times but the encoder halves it "
            f"{len(wanted)} times; give both the same number of features"
        )
    if any(given > fits for given, fits in zip(wanted, room, strict=True)):
        raise ConfigError(
            f"a decoder of features {features} takes skips of at most {tuple(room)} channels, coarsest first, but the "
            f"encoder gives {tuple(wanted)}; make the decoder's features at least twice as wide"
        )
