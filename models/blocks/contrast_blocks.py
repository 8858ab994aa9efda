"""The two blocks of the dual-domain encoder and decoders."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from quell.models.blocks.complex_layers import LayerNorm2d, relu, weight_dtype


class DoubleConv(nn.Module):
    """Two rounds of 3x3 convolution without bias, layer normalisation and ReLU; keeps height and width."""

    def __init__(self, in_channels: int, out_channels: int, *, complex: bool = False) -> None:
        super().__init__()
        dtype = weight_dtype(complex)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False, dtype=dtype)
        self.norm1 = LayerNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False, dtype=dtype)
        self.norm2 = LayerNorm2d(out_channels)

    def forward(self, x_NCHW: Tensor, weight: Tensor | None = None) -> Tensor:
        """Convolve twice.

        Args:
            x_NCHW: Features (N, in_channels, H, W), or with fewer channels if `weight` is given.
            weight: Replaces the weight of the first convolution, for an input without some of its channels.

        Returns:
            Features (N, out_channels, H, W).
        """
        first = functional.conv2d(x_NCHW, self.conv1.weight if weight is None else weight, padding=1)
        return relu(self.norm2(self.conv2(relu(self.norm1(first)))))


class UpBlock(nn.Module):
    """Double height and width: transposed convolution to half the channels, concat[skip, upsampled], DoubleConv.

    The concatenation is `in_channels` wide, half of it for the skip and half for the upsampled features. Channels that
    the skip does not have (because it is narrower, or there is none) count as zeros. They are not convolved: the input
    channels of the weight that would read them are left out, with the same result and the same parameters.
    """

    def __init__(self, in_channels: int, out_channels: int, *, complex: bool = False) -> None:
        super().__init__()
        self.skip_width = in_channels - in_channels // 2
        self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, 2, stride=2, dtype=weight_dtype(complex))
        self.conv = DoubleConv(in_channels, out_channels, complex=complex)

    def forward(self, x_NCHW: Tensor, skip_NCHW: Tensor | None = None) -> Tensor:
        """Upsample features and join them with a skip.

        Args:
            x_NCHW: Features (N, in_channels, H, W).
            skip_NCHW: Features (N, at most in_channels / 2, 2 H, 2 W) of the encoder; None counts as zeros.

        Returns:
            Features (N, out_channels, 2 H, 2 W).
        """
        up = self.up(x_NCHW)
        weight = self.conv.conv1.weight
        if skip_NCHW is None:
            return self.conv(up, weight[:, self.skip_width :])
        assert skip_NCHW.shape[-2:] == up.shape[-2:], (skip_NCHW.shape, up.shape)
        skip_channels = skip_NCHW.shape[1]
        assert skip_channels <= self.skip_width, f"a skip has {skip_channels} channels, at most {self.skip_width} fit"
        joined = torch.cat([skip_NCHW, up], dim=1)
        if skip_channels == self.skip_width:
            return self.conv(joined)
        return self.conv(joined, torch.cat([weight[:, :skip_channels], weight[:, self.skip_width :]], dim=1))
