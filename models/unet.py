"""U-Net with four levels of max pooling and bilinear upsampling."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from quell.configs.errors import ConfigError
from quell.configs.sizes import Deviation, Width
from quell.models.blocks.axis_maps import upsample_bilinear
from quell.models.blocks.initialization import init_normal
from quell.models.blocks.norms import Norm, norm_layer
from quell.models.blocks.padding import padded
from quell.models.blocks.residual import check_residual


class UNet(nn.Module):
    """The classic U-Net: two convolutions per block, skips by concatenation, bilinear upsampling (corners aligned).

    Blocks are two rounds of 3x3 convolution with bias, normalisation and ReLU. The encoder is 1, 2, 4 and 8 times
    `width` wide, the bottom 16 times. The last two convolutions (2 width -> width / 2 -> out_channels) have neither
    norm nor activation.

    With one channel, width 64 and batch norm: 21,912,513 parameters. The source declares 192 more, in two batch norms
    after the last convolutions that it never calls; they are left out so that every parameter receives a gradient,
    which DDP requires.

    Args:
        in_channels: Channels of the input image.
        out_channels: Channels of the output.
        width: Channels at full resolution.
        norm: Normalisation, a name of `models/blocks/norms.py`.
        residual: Predict the noise and return image - noise.
        init_std: Standard deviation to draw weights with, 0.02 in the source; null keeps torch's initialisation.
        checkpointing: Recompute each block's activations in the backward pass instead of keeping them: less memory for
            a second forward pass.

    Shape:
        Input (N, in_channels, H, W) of any H and W; it is padded by reflection to multiples of 16, and the output is
        cropped back. Output (N, out_channels, H, W).

    Raises:
        ConfigError: `checkpointing` with a norm that keeps running averages, or `residual` joins different numbers of
            channels.

    Source:
        GeneratorUNet of CNCL (Geng et al., IEEE TMI 41(2), 2022).
    """

    def __init__(
        self,
        in_channels: Width = 1,
        out_channels: Width = 1,
        width: Width = 64,
        norm: Norm = "batch",
        residual: bool = False,
        init_std: Deviation | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_residual(residual, in_channels, out_channels)
        if checkpointing and norm in ("batch", "frozen_batch"):
            raise ConfigError(
                f"unet: checkpointing runs each block twice, so norm {norm} would count each batch twice: "
                "use norm group, instance or none"
            )
        self.residual, self.checkpointing = residual, checkpointing
        widths = [width * factor for factor in (1, 2, 4, 8)]
        self.down = nn.ModuleList(
            _block(before, after, after, norm)
            for before, after in zip([in_channels, *widths[:-1]], widths, strict=True)
        )
        self.bottom = _block(8 * width, 16 * width, 8 * width, norm)
        self.up = nn.ModuleList(_block(2 * wide, wide, wide // 2, norm) for wide in widths[:0:-1])
        self.last = nn.Sequential(
            nn.Conv2d(2 * width, width // 2, 3, padding=1), nn.Conv2d(width // 2, out_channels, 3, padding=1)
        )
        if init_std is not None:
            init_normal(self, init_std)

    @padded(16)
    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Restore images (N, in_channels, H, W)."""
        x, skips = image_NCHW, []
        for block in self.down:
            x = self._run(block, x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = self._run(self.bottom, x)
        for block in (*self.up, self.last):
            x = upsample_bilinear(x)
            x = self._run(block, torch.cat([skips.pop(), x], dim=1))
        return image_NCHW - x if self.residual else x

    def _run(self, block: nn.Module, x: Tensor) -> Tensor:
        """Run a block, under activation checkpointing if it is on and gradients are needed."""
        if self.checkpointing and torch.is_grad_enabled():
            recomputed: Tensor = checkpoint(block, x, use_reentrant=False)
            return recomputed
        out: Tensor = block(x)
        return out


def _block(in_channels: int, middle: int, out_channels: int, norm: Norm) -> nn.Sequential:
    """Two rounds of 3x3 convolution, normalisation and ReLU."""
    layers: list[nn.Module] = []
    for before, after in ((in_channels, middle), (middle, out_channels)):
        layers += [nn.Conv2d(before, after, 3, padding=1), norm_layer(norm, after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
