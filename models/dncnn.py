"""DnCNN: a plain stack of convolutions at full resolution."""

from typing import Literal

from torch import Tensor, nn

from configs.errors import ConfigError
from models.blocks.norms import Norm, draw_weights, norm_layer
from models.blocks.residual import check_residual

Activation = Literal["relu", "leaky_relu"]


class DnCNN(nn.Module):
    """Image (N, in, H, W) to image (N, out, H, W) of any size; sees `2 * depth + 1` pixels a side.

    `depth` 3x3 convolutions: the first with an activation, the last alone, those between with norm and activation.
    `activation`: relu, or leaky_relu with slope 0.01. `residual`: it predicts the noise and returns image - noise; with
    residual=false it returns the last convolution's output, whatever the method takes that to be. `init_std`: weights
    from N(0, init_std); null draws them by He's rule (fan in).

    | variant | arguments beside the defaults | parameters, 1 channel |
    |---|---|---|
    | R2R (Pang et al., CVPR 2021), after Zhang et al., IEEE TIP 2017 | none | 556,032 |
    | TCFL (Geng et al., IEEE TMI 2022) | depth 10, leaky_relu, residual false, init_std 0.02 | 297,088 |
    | TCFL reproduction | the same with bias true (its own slope is 0.2) | 297,665 |
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        depth: int = 17,
        width: int = 64,
        bias: bool = False,
        norm: Norm = "batch",
        activation: Activation = "relu",
        residual: bool = True,
        init_std: float | None = None,
    ) -> None:
        super().__init__()
        if depth < 3:
            raise ConfigError(f"a DnCNN of depth {depth} has no layer between its first and last; give 3 or more")
        check_residual(residual, in_channels, out_channels)
        self.residual = residual
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, padding=1, bias=bias), _activation(activation)]
        for _ in range(depth - 2):
            layers.append(nn.Conv2d(width, width, 3, padding=1, bias=bias))
            layers += [norm_layer(norm, width), _activation(activation)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, out_channels, 3, padding=1, bias=bias))
        if init_std is not None:
            draw_weights(self, init_std)
        else:
            _he(self)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """The restored image, (N, out_channels, H, W)."""
        output = self.layers(image_NCHW)
        return image_NCHW - output if self.residual else output


def _activation(name: Activation) -> nn.Module:
    return nn.ReLU(inplace=True) if name == "relu" else nn.LeakyReLU(0.01, inplace=True)


def _he(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
