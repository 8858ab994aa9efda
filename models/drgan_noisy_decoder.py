"""DRGAN's noisy decoder: an image with a given noise from a content and a noise code."""

from torch import Tensor, nn

from models.blocks.drgan import Residual, UpPath, kaiming


class DrganNoisyDecoder(nn.Module):
    """G_N: the content encoder's four feature maps and noise codes -> noisy images (N, C, H, W) in [-1, 1].

    As the clean decoder, with AdaIN in the residual blocks: an MLP turns a code into shift and scale of each of their
    norms; 7,041,601 parameters with width 64, one channel and 8 code channels.
    Source: Huang et al., IEEE TMI 40(10), 2021.
    """

    def __init__(self, out_channels: int = 1, *, width: int = 64, blocks: int = 4, code_channels: int = 8) -> None:
        super().__init__()
        channels = 4 * width
        self.blocks = nn.ModuleList(Residual(channels) for _ in range(blocks))
        self.up_path = UpPath(out_channels, width)
        last = nn.Linear(channels, blocks * 4 * channels)
        hidden = (nn.Linear(code_channels, channels), nn.ReLU(), nn.Linear(channels, channels), nn.ReLU())
        self.styles = nn.Sequential(*hidden, last)
        kaiming(self)
        # A scale of one at the start: AdaIN begins as plain instance norm plus the code's small changes.
        nn.init.normal_(last.weight, std=0.02)
        last.bias.data.view(blocks, 2, 2, channels)[:, :, 1] = 1.0

    def forward(self, features: list[Tensor], codes_NK: Tensor) -> Tensor:
        """Images in [-1, 1]; `features` as DrganContentEncoder gives them, `codes_NK` as DrganNoiseEncoder does."""
        x_NCHW = features[-1]
        for block, style_N4C in zip(self.blocks, self.styles(codes_NK).chunk(len(self.blocks), dim=1), strict=True):
            x_NCHW = block(x_NCHW, style_N4C)
        return self.up_path(x_NCHW, features[:-1])
