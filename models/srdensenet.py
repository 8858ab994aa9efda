"""SRDenseNet: dense blocks at full resolution, without upsampling."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from quell.configs.sizes import Depth, Deviation, Width
from quell.models.blocks.initialization import init_normal
from quell.models.blocks.residual import check_residual


class SRDenseNet(nn.Module):
    """Dense blocks of 3x3 convolutions, each of which sees the concatenated outputs of all before it.

    A 3x3 convolution, the dense blocks, a 1x1 bottleneck and a 3x3 convolution to the output. ReLU follows every
    convolution but the last two; there is no normalisation. Memory grows with the square of blocks * layers.

    With the defaults: 5,062,305 parameters.

    Args:
        in_channels: Channels of the input image.
        out_channels: Channels of the output.
        growth: Channels that each convolution adds.
        layers: Convolutions per dense block.
        blocks: Number of dense blocks.
        bottleneck: Channels of the bottleneck.
        residual: Predict the noise and return image - noise.
        init_std: Standard deviation to draw weights with; null keeps torch's initialisation.

    Shape:
        Input (N, in_channels, H, W), of any H and W. Output (N, out_channels, H, W).

    Raises:
        ConfigError: `residual` joins different numbers of channels.

    Source:
        TCFL reproduction, after Tong et al., Image Super-Resolution Using Dense Skip Connections, ICCV 2017.
    """

    def __init__(
        self,
        in_channels: Width = 1,
        out_channels: Width = 1,
        growth: Width = 16,
        layers: Depth = 8,
        blocks: Depth = 8,
        bottleneck: Width = 256,
        residual: bool = False,
        init_std: Deviation | None = None,
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
            init_normal(self, init_std)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Restore images (N, in_channels, H, W)."""
        x = functional.relu(self.first(image_NCHW))
        for conv in self.dense:
            x = torch.cat([x, functional.relu(conv(x))], dim=1)
        output = self.last(self.bottleneck(x))
        return image_NCHW - output if self.residual else output
