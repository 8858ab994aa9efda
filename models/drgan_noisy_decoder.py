"""DRGAN's noisy decoder: decodes content as an image with the noise that a code describes."""

from torch import Tensor, nn

from quell.configs.sizes import Depth, Width
from quell.models.blocks.drgan_blocks import StyledResidualBlock, UpPath
from quell.models.blocks.initialization import init_he


class DrganNoisyDecoder(nn.Module):
    """G_N: the clean decoder with adaptive instance norm (AdaIN) in its residual blocks.

    An MLP turns the noise code into a shift and a scale per channel for each of the blocks' norms. With the defaults:
    7,041,601 parameters.

    Args:
        out_channels: Channels of the image.
        width: Channels at full resolution; twice and four times as many at half and quarter resolution.
        blocks: Number of residual blocks, at quarter resolution.
        code_channels: Length of the noise code.

    Shape:
        Inputs: the four feature maps of `DrganContentEncoder`, and codes (N, code_channels). Output
        (N, out_channels, H, W) in [-1, 1].

    Source:
        Huang et al., IEEE TMI 40(10), 2021.
    """

    def __init__(
        self, out_channels: Width = 1, *, width: Width = 64, blocks: Depth = 4, code_channels: Width = 8
    ) -> None:
        super().__init__()
        channels = 4 * width
        self.blocks = nn.ModuleList(StyledResidualBlock(channels) for _ in range(blocks))
        self.up_path = UpPath(out_channels, width)
        last = nn.Linear(channels, blocks * 4 * channels)
        hidden = (nn.Linear(code_channels, channels), nn.ReLU(), nn.Linear(channels, channels), nn.ReLU())
        self.styles = nn.Sequential(*hidden, last)
        init_he(self)
        # Scales start at 1 and shifts at 0: AdaIN begins as plain instance norm, with small changes from the code.
        nn.init.normal_(last.weight, std=0.02)
        last.bias.data.view(blocks, 2, 2, channels)[:, :, 1] = 1.0

    def forward(self, features: list[Tensor], codes_NK: Tensor) -> Tensor:
        """Decode the feature maps of `DrganContentEncoder`, with the noise of `DrganNoiseEncoder`'s codes."""
        x_NCHW = features[-1]
        for block, style_N4C in zip(self.blocks, self.styles(codes_NK).chunk(len(self.blocks), dim=1), strict=True):
            x_NCHW = block(x_NCHW, style_N4C)
        return self.up_path(x_NCHW, features[:-1])
