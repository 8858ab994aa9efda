"""Spectroformer: a four-level transformer U-Net with attention in space and spectrum, for underwater images.

Source: Khan et al., Spectroformer: Multi-Domain Query Cascaded Transformer Network for Underwater Image Enhancement,
WACV 2024. Parameters of its two designs:

| size | channels | blocks per level | refinement | `official` | `reproduction` |
|---|---|---|---|---|---|
| small | 16 | 2, 3, 3, 4 | 4 | 2,452,235 | 2,992,892 |
| base | 48 | 4, 6, 6, 8 | 4 | 36,724,509 | 46,672,770 |
| large | 64 | 6, 8, 8, 10 | 6 | 80,976,833 | 103,084,334 |

`official` is the authors' code, which declares 2,511,081 parameters in its only size, small. 264,670 of them never
receive a gradient: 205,824 belong to the frequency query, which does take part here, and 58,846 to five modules that
nothing calls, which are left out; 2,511,081 - 58,846 = 2,452,235. `reproduction` is rebuilt from the paper's text: both
parts of the spectrum instead of the real one, and skips gated by their means.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from quell.configs.sizes import Width
from quell.models.blocks.initialization import init_xavier
from quell.models.blocks.padding import padded
from quell.models.blocks.residual import check_residual
from quell.models.blocks.spectroformer_attention import Spectrum, TransformerBlock, conv1
from quell.models.blocks.spectroformer_resampling import Downsample, HybridUpsample
from quell.models.blocks.spectroformer_skips import OfficialSkip, SummedSkip

SIZES: dict[str, tuple[int, tuple[int, int, int, int], int]] = {
    "small": (16, (2, 3, 3, 4), 4),
    "base": (48, (4, 6, 6, 8), 4),
    "large": (64, (6, 8, 8, 10), 6),
}
"""Channels at full resolution, transformer blocks of each level, and refinement blocks."""
HEADS = (1, 2, 4, 8)
"""Attention heads of each level."""
EXPANSION = 2.66
"""Width of the feed-forward part relative to the features."""
MULTIPLE = 8
"""Three halvings must come out even: sides are padded to multiples of 2**3."""


class Spectroformer(nn.Module):
    """A U-Net of transformer blocks whose second attention takes its query from the image's spectrum.

    Args:
        in_channels: Channels of the input image.
        out_channels: Channels of the output image.
        size: Width and depth, a name of the table above.
        design: `official` as in the authors' code, or `reproduction` as in the paper's text.
        residual: Add the input to the output, which the reproduction does and the authors' code does not. Training
            then starts from the photograph instead of from nothing, and is faster.
        second_attention: Which map the second attention of a block applies: `own`, with the query from the spectrum, as
            the paper describes; or `first`, the first attention's again, which the authors' code does. Their weights
            need it. Without the queries, which then never learn, `official` has 205,824 parameters less.
        init: How convolutions start: as `torch` starts them, or `xavier` (uniform), as in the reproduction's script.
        checkpointing: Recompute each block's activations in the backward pass instead of keeping them: about a third
            more time for far less memory.

    Shape:
        Input (N, in_channels, H, W) of any H and W; it is padded by reflection to multiples of 8, and the output is
        cropped back. Output (N, out_channels, H, W), in the units of the input.

    Raises:
        ConfigError: `residual` joins different numbers of channels.

    Source:
        Khan et al., WACV 2024.
    """

    def __init__(
        self,
        *,
        in_channels: Width = 3,
        out_channels: Width = 3,
        size: Literal["small", "base", "large"] = "small",
        design: Literal["official", "reproduction"] = "official",
        residual: bool = True,
        second_attention: Literal["own", "first"] = "own",
        init: Literal["torch", "xavier"] = "torch",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        width, blocks, refinement = SIZES[size]
        official = design == "official"
        spectrum: Spectrum = "real" if official else "complex"
        check_residual(residual, in_channels, out_channels)
        self.residual = residual
        widths = [width, 2 * width, 4 * width, 8 * width]
        top = 2 * width if official else width  # the official code does not reduce the finest concatenation

        def stage(channels: int, heads: int, count: int) -> nn.Module:
            blocks = (
                TransformerBlock(
                    channels,
                    heads,
                    expansion=EXPANSION,
                    spectrum=spectrum,
                    repeats_first=second_attention == "first",
                )
                for _ in range(count)
            )
            return _CheckpointedStage(*blocks) if checkpointing else nn.Sequential(*blocks)

        self.embed = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(stage(*level) for level in zip(widths, HEADS, blocks, strict=True))
        self.down = nn.ModuleList(Downsample(channels, adjust=not official) for channels in widths[:3])
        self.up = nn.ModuleList(HybridUpsample(channels, bias=official) for channels in widths[1:])
        self.skip = nn.ModuleList(OfficialSkip(c) if official else SummedSkip(c) for c in widths[:3])
        self.fuse = nn.ModuleList(
            nn.Identity() if official and level == 0 else conv1(2 * channels, channels)
            for level, channels in enumerate(widths[:3])
        )
        self.decoder = nn.ModuleList(
            stage(*level) for level in zip([top, *widths[1:3]], HEADS[:3], blocks[:3], strict=True)
        )
        self.refinement = stage(top, HEADS[0], refinement)
        self.head = _head(top, width // 2 if official else None, out_channels)
        if init == "xavier":
            init_xavier(self)

    @padded(MULTIPLE)
    def forward(self, noisy_NCHW: Tensor) -> Tensor:
        """Restore images (N, in_channels, H, W)."""
        x = self.embed(noisy_NCHW)
        levels = []
        for down, stage in zip(self.down, self.encoder, strict=False):  # the deepest stage is not downsampled
            x = stage(x)
            levels.append(x)
            x = down(x)
        x = self.encoder[-1](x)
        for level in (2, 1, 0):
            x = self.fuse[level](torch.cat([self.up[level](x), self.skip[level](levels[level])], 1))
            x = self.decoder[level](x)
        out = self.head(self.refinement(x))
        return out + noisy_NCHW if self.residual else out


class _CheckpointedStage(nn.Sequential):
    """Blocks whose activations are recomputed in the backward pass instead of being kept."""

    def forward(self, x: Tensor) -> Tensor:
        for block in self:
            x = checkpoint(block, x, use_reentrant=False) if torch.is_grad_enabled() else block(x)
        return x


def _head(channels: int, between: int | None, out_channels: int) -> nn.Module:
    """3x3 convolution to the image, by way of a narrower one if `between` gives its channels."""
    if between is None:
        return nn.Conv2d(channels, out_channels, 3, padding=1, bias=False)
    narrow = nn.Conv2d(channels, between, 3, padding=1, bias=False)
    return nn.Sequential(narrow, nn.Conv2d(between, out_channels, 3, padding=1, bias=False))
