"""DnCNN: a plain stack of convolutions at full resolution."""

from typing import Literal

import torch
from torch import Tensor, nn

from quell.configs.errors import ConfigError
from quell.configs.sizes import Depth, Deviation, Slope, Width
from quell.models.blocks.initialization import init_he, init_normal
from quell.models.blocks.norms import Norm, norm_layer
from quell.models.blocks.residual import check_residual

Activation = Literal["relu", "leaky_relu"]

SMALL = 0.025
"""Largest scale of a norm that starts small."""


class DnCNN(nn.Module):
    """A stack of 3x3 convolutions: activation after the first, norm and activation after each middle one, none last.

    The receptive field is `2 * depth + 1` pixels a side.

    | variant | arguments that differ from the defaults | parameters, 1 channel |
    |---|---|---|
    | R2R (Pang et al., CVPR 2021), after Zhang et al., IEEE TIP 2017 | none | 556,032 |
    | TCFL (Geng et al., IEEE TMI 2022) | depth 10, leaky_relu, residual false, init_std 0.02 | 297,088 |
    | TCFL reproduction | the same with bias true, norm batch_statistics and slope 0.2 | 297,665 |

    Args:
        in_channels: Channels of the input image.
        out_channels: Channels of the output.
        depth: Number of convolutions, at least 3.
        width: Channels between convolutions.
        bias: Give the convolutions a bias.
        norm: Normalisation of the middle layers, a name of `models/blocks/norms.py`.
        activation: `relu` or `leaky_relu`.
        slope: Slope of `leaky_relu` below zero.
        residual: Predict the noise and return image - noise. Otherwise return the output of the last convolution,
            which may be an image or noise as the method decides.
        scales: How the norms' scales start: at `one`, or `small`, drawn about 0 with variance 2 / (9 width) and
            clipped to 0.025 on either side, as in R2R's code.
        init_std: Standard deviation to draw weights with; null takes He's, sqrt(2 / fan_in).

    Shape:
        Input (N, in_channels, H, W), of any H and W. Output (N, out_channels, H, W).

    Raises:
        ConfigError: `depth` is below 3, or `residual` joins different numbers of channels.

    Source:
        Zhang et al., Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising, IEEE TIP 2017.
    """

    def __init__(
        self,
        in_channels: Width = 1,
        out_channels: Width = 1,
        depth: Depth = 17,
        width: Width = 64,
        bias: bool = False,
        norm: Norm = "batch",
        activation: Activation = "relu",
        slope: Slope = 0.01,
        residual: bool = True,
        scales: Literal["one", "small"] = "one",
        init_std: Deviation | None = None,
    ) -> None:
        super().__init__()
        if depth < 3:
            raise ConfigError(f"dncnn: depth must be 3 or more (a first, a middle and a last layer), got depth {depth}")
        check_residual(residual, in_channels, out_channels)
        self.residual = residual

        def activate() -> nn.Module:
            return nn.ReLU(inplace=True) if activation == "relu" else nn.LeakyReLU(slope, inplace=True)

        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, padding=1, bias=bias), activate()]
        for _ in range(depth - 2):
            layers.append(nn.Conv2d(width, width, 3, padding=1, bias=bias))
            layers += [norm_layer(norm, width), activate()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, out_channels, 3, padding=1, bias=bias))
        if init_std is not None:
            init_normal(self, init_std)
        else:
            init_he(self)
        if scales == "small":
            for layer in self.layers:
                if isinstance(layer, nn.BatchNorm2d):
                    nn.init.normal_(layer.weight, std=(2 / (9 * width)) ** 0.5)
                    with torch.no_grad():
                        layer.weight.clamp_(-SMALL, SMALL)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Restore images (N, in_channels, H, W)."""
        output = self.layers(image_NCHW)
        return image_NCHW - output if self.residual else output
