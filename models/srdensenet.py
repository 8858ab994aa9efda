"""SRDenseNet: dense blocks at full resolution, without upsampling."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.blocks.norms import draw_weights
from models.blocks.residual import check_residual


class SRDenseNet(nn.Module):
    """Image (N, in, H, W) to image (N, out, H, W) of any size.

    A 3x3 convolution to `growth` channels; `blocks` dense blocks of `layers` 3x3 convolutions, each to `growth`
    channels, concatenated with everything before them; 1x1 to `bottleneck`; 3x3 to the output. ReLU after every
    convolution but the last two, no normalisation. Memory grows with the square of blocks * layers.

    `residual`: the network predicts the noise and returns image - noise. `init_std`: weights from N(0, init_std); null
    keeps torch's own. One channel and the defaults: 5,062,305 parameters.
    Source: TCFL reproduction, after Tong et al., ICCV 2017.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        growth: int = 16,
        layers: int = 8,
        blocks: int = 8,
        bottleneck: int = 256,
        residual: bool = False,
        init_std: float | None = None,
    ) -> None:
        super().__init__()
        check_residual(residual, in_channels, out_channels)
        self.residual = residual
        self.first = nn.Conv2d(in_channels, growth, 3, padding=1)
        count = blocks * layers
        self.dense = nn.ModuleList(nn.Conv2d(growth * (1 + k), growth, 3, padding=1) for k in range(count))
        self.bottleneck = nn.Conv2d(growth * (1 + count), bottleneck, 1)
        self.last = nn.Conv2d(bottleneck, out_channels, 3, padding=1)
        if init_std is not None:
            draw_weights(self, init_std)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """The restored image, (N, out_channels, H, W)."""
        x = functional.relu(self.first(image_NCHW))
        for conv in self.dense:
            x = torch.cat([x, functional.relu(conv(x))], dim=1)
        output = self.last(self.bottleneck(x))
        return image_NCHW - output if self.residual else output
