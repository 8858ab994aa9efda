"""The two blocks that the dual-domain encoder and its decoders are made of."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.blocks.complex import LayerNorm2d, relu, weight_dtype


class DoubleConv(nn.Module):
    """Twice: 3x3 convolution without bias, group normalisation with one group, ReLU. Keeps height and width."""

    def __init__(self, in_channels: int, out_channels: int, *, complex: bool = False) -> None:
        super().__init__()
        dtype = weight_dtype(complex)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False, dtype=dtype)
        self.norm1 = LayerNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False, dtype=dtype)
        self.norm2 = LayerNorm2d(out_channels)

    def forward(self, x_NCHW: Tensor, weight: Tensor | None = None) -> Tensor:
        """`weight` stands in for the first convolution's, for an input that lacks some channels."""
        first = functional.conv2d(x_NCHW, self.conv1.weight if weight is None else weight, padding=1)
        return relu(self.norm2(self.conv2(relu(self.norm1(first)))))


class Up(nn.Module):
    """Doubles height and width: transposed convolution to half the channels, concat[skip, up], DoubleConv.

    The concatenation is `in_channels` wide: `in_channels // 2` for the skip, as many for the upsampled features. Skip
    channels that are missing (a narrower skip, or none) count as zeros. They are not convolved: the columns of the
    weight that would read them are left out, which gives the same numbers, the same parameters and less work.
    """

    def __init__(self, in_channels: int, out_channels: int, *, complex: bool = False) -> None:
        super().__init__()
        self.skip_width = in_channels - in_channels // 2
        self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, 2, stride=2, dtype=weight_dtype(complex))
        self.conv = DoubleConv(in_channels, out_channels, complex=complex)

    def forward(self, x_NCHW: Tensor, skip_NCHW: Tensor | None = None) -> Tensor:
        """Features at twice the size, joined with a skip or with zeros in its place."""
        up = self.up(x_NCHW)
        weight = self.conv.conv1.weight
        if skip_NCHW is None:
            return self.conv(up, weight[:, self.skip_width :])
        assert skip_NCHW.shape[-2:] == up.shape[-2:], (skip_NCHW.shape, up.shape)
        given = skip_NCHW.shape[1]
        assert given <= self.skip_width, f"skip of {given} channels where at most {self.skip_width} fit"
        both = torch.cat([skip_NCHW, up], dim=1)
        if given == self.skip_width:
            return self.conv(both)
        return self.conv(both, torch.cat([weight[:, :given], weight[:, self.skip_width :]], dim=1))
