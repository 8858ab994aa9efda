"""Spectroformer: a four-level transformer U-Net with attention in space and spectrum, for underwater images.

Khan et al., "Spectroformer: Multi-Domain Query Cascaded Transformer Network for Underwater Image Enhancement",
WACV 2024. Two designs:

| size | channels | blocks per level | refinement | `official` | `reproduction` |
|---|---|---|---|---|---|
| small | 16 | 2, 3, 3, 4 | 4 | 2,452,235 | 2,992,892 |
| base | 48 | 4, 6, 6, 8 | 4 | 36,724,509 | 46,672,770 |
| large | 64 | 6, 8, 8, 10 | 6 | 80,976,833 | 103,084,334 |

`official` is the authors' code, which declares 2,511,081 parameters in its only size, small. 264,670 of these never
receive a gradient: 205,824 belong to the frequency query, which is used here, and 58,846 to five modules nothing calls,
which are left out; 2,511,081 - 58,846 = 2,452,235. `reproduction` is the cascade as rebuilt from the paper's text in
the user's project: both parts of the spectrum instead of the real one, and skips gated by their means.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.blocks.padding import padded
from models.blocks.residual import check_residual
from models.blocks.spectro_attention import Block, Spectrum, conv1
from models.blocks.spectro_scales import Down, HybridUp, OfficialSkip, SummedSkip

SIZES: dict[str, tuple[int, tuple[int, int, int, int], int]] = {
    "small": (16, (2, 3, 3, 4), 4),
    "base": (48, (4, 6, 6, 8), 4),
    "large": (64, (6, 8, 8, 10), 6),
}
HEADS = (1, 2, 4, 8)
EXPANSION = 2.66
MULTIPLE = 8


class Spectroformer(nn.Module):
    """(N, in_channels, H, W) to (N, out_channels, H, W), any size: padded to a multiple of 8 and cropped back.

    `residual` adds the input to the output, as the reproduction does and the authors' code does not; it starts from the
    raw photograph instead of nothing and learns faster. `checkpointing` recomputes each block in the backward pass
    instead of keeping its activations: about a third more time for far less memory.

    Raises ConfigError for a residual between different numbers of channels.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 3,
        size: Literal["small", "base", "large"] = "small",
        design: Literal["official", "reproduction"] = "official",
        residual: bool = True,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        width, blocks, refinement = SIZES[size]
        official = design == "official"
        spectrum: Spectrum = "real" if official else "complex"
        check_residual(residual, in_channels, out_channels)
        self.residual = residual
        wide = [width, 2 * width, 4 * width, 8 * width]
        top = 2 * width if official else width

        def stage(channels: int, heads: int, count: int) -> nn.Module:
            blocks = (Block(channels, heads, expansion=EXPANSION, spectrum=spectrum) for _ in range(count))
            return _Recomputed(*blocks) if checkpointing else nn.Sequential(*blocks)

        self.embed = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(stage(*level) for level in zip(wide, HEADS, blocks, strict=True))
        self.down = nn.ModuleList(Down(channels, adjust=not official) for channels in wide[:3])
        self.up = nn.ModuleList(HybridUp(channels, bias=official) for channels in wide[1:])
        self.skip = nn.ModuleList(OfficialSkip(c) if official else SummedSkip(c) for c in wide[:3])
        self.fuse = nn.ModuleList(
            nn.Identity() if official and level == 0 else conv1(2 * channels, channels)
            for level, channels in enumerate(wide[:3])
        )
        self.decoder = nn.ModuleList(
            stage(*level) for level in zip([top, *wide[1:3]], HEADS[:3], blocks[:3], strict=True)
        )
        self.refinement = stage(top, HEADS[0], refinement)
        self.head = _head(top, width // 2 if official else None, out_channels)

    @padded(MULTIPLE)
    def forward(self, noisy_NCHW: Tensor) -> Tensor:
        """The restored image, in the units of the noisy one."""
        x = self.embed(noisy_NCHW)
        levels = []
        for down, stage in zip(self.down, self.encoder, strict=False):  # the deepest stage has no way further down
            x = stage(x)
            levels.append(x)
            x = down(x)
        x = self.encoder[-1](x)
        for level in (2, 1, 0):
            x = self.fuse[level](torch.cat([self.up[level](x), self.skip[level](levels[level])], 1))
            x = self.decoder[level](x)
        out = self.head(self.refinement(x))
        return out + noisy_NCHW if self.residual else out


class _Recomputed(nn.Sequential):
    """Blocks whose activations are computed again in the backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        for block in self:
            x = checkpoint(block, x, use_reentrant=False) if torch.is_grad_enabled() else block(x)
        return x


def _head(channels: int, between: int | None, out_channels: int) -> nn.Module:
    """3x3 convolution to the image, through a narrower one where `between` is given."""
    if between is None:
        return nn.Conv2d(channels, out_channels, 3, padding=1, bias=False)
    narrow = nn.Conv2d(channels, between, 3, padding=1, bias=False)
    return nn.Sequential(narrow, nn.Conv2d(between, out_channels, 3, padding=1, bias=False))
