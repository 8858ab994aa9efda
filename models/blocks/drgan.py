"""The parts DRGAN's four networks share: reflect-padded convolutions, residual blocks, and the decoders' up path."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.blocks.norms import GroupNorm, InstanceNorm2d, by_instance
from models.blocks.precision import full_precision


class Convolution(nn.Sequential):
    """Reflect-padded convolution with bias; `norm` is instance norm without parameters, then ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, *, norm: bool = True) -> None:
        pad = kernel // 2 if stride == 1 else (kernel - stride) // 2
        layers: list[nn.Module] = [nn.Conv2d(in_channels, out_channels, kernel, stride, pad, padding_mode="reflect")]
        if norm:
            layers += [InstanceNorm2d(out_channels), nn.ReLU(inplace=True)]
        super().__init__(*layers)


class Residual(nn.Module):
    """x + norm(conv3(relu(norm(conv3(x))))): instance norm, or with a style's scale and shift behind it (AdaIN)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")
        self.second = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")

    def forward(self, x_NCHW: Tensor, style_N4C: Tensor | None = None) -> Tensor:
        """`style_N4C`: for each of the two norms a shift and a scale per channel, None for plain instance norm."""
        styles = (None, None) if style_N4C is None else style_N4C.chunk(2, dim=1)
        hidden = functional.relu(_normalised(self.first(x_NCHW), styles[0]))
        return x_NCHW + _normalised(self.second(hidden), styles[1])


class UpPath(nn.Module):
    """From the content features to an image in [-1, 1]: before each stage the encoder's features are fused back in.

    Two stages of nearest x2, conv5, layer norm (over a sample's channels and pixels), ReLU; then conv7 and tanh.
    """

    def __init__(self, out_channels: int, width: int) -> None:
        super().__init__()
        wide = (4 * width, 2 * width, width)
        self.fuse = nn.ModuleList(nn.Conv2d(2 * channels, channels, 1) for channels in wide)
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.Upsample(scale_factor=2),
                nn.Conv2d(before, after, 5, padding=2, padding_mode="reflect"),
                GroupNorm(1, after),
                nn.ReLU(inplace=True),
            )
            for before, after in itertools.pairwise(wide)
        )
        self.image = nn.Conv2d(width, out_channels, 7, padding=3, padding_mode="reflect")

    def forward(self, x_NCHW: Tensor, skips: list[Tensor]) -> Tensor:
        """`skips`: the encoder's features at full, half and quarter resolution."""
        for fuse, up, skip in zip(self.fuse[:2], self.up, (skips[2], skips[1]), strict=True):
            x_NCHW = up(fuse(torch.cat([x_NCHW, skip], dim=1)))
        image = self.image(self.fuse[2](torch.cat([x_NCHW, skips[0]], dim=1)))
        return torch.tanh(full_precision(image))  # of bfloat16 it would have steps of 1/256 near -1, where it is dark


def kaiming(network: nn.Module) -> None:
    """He initialisation of every convolution and linear layer, biases zero."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, a=0.0, mode="fan_in")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _normalised(x_NCHW: Tensor, style_N2C: Tensor | None) -> Tensor:
    """Instance norm, then the style's shift and scale where there is one (Huang and Belongie, ICCV 2017)."""
    normal = by_instance(x_NCHW)
    if style_N2C is None:
        return normal
    shift, scale = style_N2C[:, :, None, None].chunk(2, dim=1)
    return normal * scale + shift
