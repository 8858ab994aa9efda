"""U-Net with four halvings and bilinear upsampling."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from configs.errors import ConfigError
from models.blocks.norms import Norm, draw_weights, norm_layer
from models.blocks.padding import padded
from models.blocks.residual import check_residual


class UNet(nn.Module):
    """Image (N, in, H, W) to image (N, out, H, W), any H and W (grown by reflection to multiples of 16, cropped back).

    Blocks of two 3x3 convolutions, each with bias, normalisation and ReLU: width, 2, 4 and 8 times width with 2x2
    maxima between them; 16 times width and back at the bottom; up by bilinear doubling (corners aligned) and
    concatenation of the skip. The last two convolutions (2 width -> width/2 -> out) have neither norm nor activation.

    `residual`: the network predicts the noise and returns image - noise. `init_std`: weights from N(0, init_std), the
    source uses 0.02; null keeps torch's own. `checkpointing` recomputes each block's activations in the backward pass
    instead of keeping them: less memory, a second forward pass.

    One channel, width 64, batch norm: 21,912,513 parameters. The source declares 192 more in two batch norms behind
    the last convolutions that it never calls; they are left out so that every parameter receives a gradient.
    Source: GeneratorUNet of CNCL (Geng et al., IEEE TMI 41(2), 2022).
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 64,
        norm: Norm = "batch",
        residual: bool = False,
        init_std: float | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_residual(residual, in_channels, out_channels)
        if checkpointing and norm in ("batch", "frozen_batch"):
            raise ConfigError(
                f"unet: checkpointing runs each block twice, norm {norm} would count each batch twice: "
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
            draw_weights(self, init_std)

    @padded(16)
    def forward(self, image_NCHW: Tensor) -> Tensor:
        """The restored image, (N, out_channels, H, W)."""
        x, skips = image_NCHW, []
        for block in self.down:
            x = self._through(block, x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = self._through(self.bottom, x)
        for block in (*self.up, self.last):
            x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            x = self._through(block, torch.cat([skips.pop(), x], dim=1))
        return image_NCHW - x if self.residual else x

    def _through(self, block: nn.Module, x: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            recomputed: Tensor = checkpoint(block, x, use_reentrant=False)
            return recomputed
        out: Tensor = block(x)
        return out


def _block(in_channels: int, middle: int, out_channels: int, norm: Norm) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in ((in_channels, middle), (middle, out_channels)):
        layers += [nn.Conv2d(before, after, 3, padding=1), norm_layer(norm, after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
