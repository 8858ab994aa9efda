"""Residual connections: a network's output joined with its input, and residual blocks without normalisation."""

from torch import Tensor, nn
from torch.nn import functional

from quell.configs.errors import ConfigError


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))) with 3x3 convolutions and no normalisation, as in EDSR and DRUNet.

    Source: Lim et al., Enhanced Deep Residual Networks, CVPR Workshops 2017.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Features of the same shape, (N, width, H, W)."""
        return x_NCHW + self.last(functional.relu(self.first(x_NCHW), inplace=True))


def residual_blocks(width: int, count: int) -> nn.Sequential:
    """`count` residual blocks of one width in a row."""
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))


def check_residual(residual: bool, in_channels: int, out_channels: int) -> None:
    """Check that a network with a global residual connection has as many output as input channels.

    Raises:
        ConfigError: `residual` is set and the numbers of channels differ.
    """
    if residual and in_channels != out_channels:
        raise ConfigError(
            f"residual=true joins the output with the input, so in_channels ({in_channels}) and out_channels "
            f"({out_channels}) must be equal: change one of them, or set residual=false"
        )
