"""What DRGAN's four networks share: reflection-padded convolutions, residual blocks, and the decoders' way up."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from quell.models.blocks.axis_maps import ReflectionConv2d
from quell.models.blocks.norms import GroupNorm, InstanceNorm2d, instance_norm
from quell.models.blocks.precision import full_precision


class ConvNormReLU(nn.Sequential):
    """Reflection-padded convolution with bias, instance norm without parameters, ReLU; size divided by `stride`."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        padding = kernel // 2 if stride == 1 else (kernel - stride) // 2
        super().__init__(
            ReflectionConv2d(in_channels, out_channels, kernel, stride, padding),
            InstanceNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class StyledResidualBlock(nn.Module):
    """x + norm(conv3(relu(norm(conv3(x))))), with plain instance norm or with adaptive instance norm (AdaIN).

    Source: Huang and Belongie, Arbitrary Style Transfer in Real-Time with AdaIN, ICCV 2017.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ReflectionConv2d(channels, channels, 3, padding=1)
        self.second = ReflectionConv2d(channels, channels, 3, padding=1)

    def forward(self, x_NCHW: Tensor, style_N4C: Tensor | None = None) -> Tensor:
        """Add the convolutions' branch to the features.

        Args:
            x_NCHW: Features (N, C, H, W).
            style_N4C: For AdaIN a shift and a scale per channel, for the first norm and then for the second,
                (N, 4 * C); None for plain instance norm.

        Returns:
            Features (N, C, H, W).
        """
        styles = (None, None) if style_N4C is None else style_N4C.chunk(2, dim=1)
        hidden = functional.relu(_adaptive_instance_norm(self.first(x_NCHW), styles[0]))
        return x_NCHW + _adaptive_instance_norm(self.second(hidden), styles[1])


class UpPath(nn.Module):
    """Content features to an image in [-1, 1], fusing in the encoder's features at each resolution.

    Two stages of nearest-neighbour upsampling by 2, conv5, layer norm (over channels and pixels of a sample) and ReLU;
    then conv7 and tanh. Before each of the three the features are concatenated with the encoder's and mixed by conv1.
    """

    def __init__(self, out_channels: int, width: int) -> None:
        super().__init__()
        widths = (4 * width, 2 * width, width)
        self.fuse = nn.ModuleList(nn.Conv2d(2 * channels, channels, 1) for channels in widths)
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.Upsample(scale_factor=2),
                ReflectionConv2d(before, after, 5, padding=2),
                GroupNorm(1, after),
                nn.ReLU(inplace=True),
            )
            for before, after in itertools.pairwise(widths)
        )
        self.image = ReflectionConv2d(width, out_channels, 7, padding=3)

    def forward(self, x_NCHW: Tensor, skips: list[Tensor]) -> Tensor:
        """Decode content features.

        Args:
            x_NCHW: Content features (N, 4 * width, H / 4, W / 4).
            skips: The encoder's features at full, half and quarter resolution, in this order.

        Returns:
            Images (N, out_channels, H, W) in [-1, 1], at least float32.
        """
        for fuse, up, skip in zip(self.fuse[:2], self.up, (skips[2], skips[1]), strict=True):
            x_NCHW = up(fuse(torch.cat([x_NCHW, skip], dim=1)))
        image = self.image(self.fuse[2](torch.cat([x_NCHW, skips[0]], dim=1)))
        # bfloat16 has steps of 1/256 near -1, where the image is dark: half a grey level of an 8-bit image.
        return torch.tanh(full_precision(image))


def _adaptive_instance_norm(x_NCHW: Tensor, style_N2C: Tensor | None) -> Tensor:
    """Instance norm, then the style's shift and scale if there is a style."""
    normalised = instance_norm(x_NCHW)
    if style_N2C is None:
        return normalised
    shift, scale = style_N2C[:, :, None, None].chunk(2, dim=1)
    return normalised * scale + shift
