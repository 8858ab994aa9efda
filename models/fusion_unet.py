"""U-Net with one encoder per contrast and one decoder; a setting decides where the contrasts are fused."""

import itertools
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from quell.configs.errors import ConfigError
from quell.configs.sizes import Depths, Width, Widths
from quell.models.blocks.initialization import init_near_identity
from quell.models.blocks.padding import padded
from quell.models.blocks.precision import full_precision
from quell.models.blocks.residual import check_residual, residual_blocks


class FusionUNet(nn.Module):
    """Restores a stack of contrasts; every contrast is encoded separately and decoded with the help of the others.

    The decoder takes a contrast's own features, into which the mean of the other contrasts' features is mixed. Mixing
    is added to the own features and starts small. Blocks and resampling are those of `residual_unet`, which fuses
    contrasts at its input.

    A forward pass costs `streams` times as much as one of `residual_unet`. With the defaults: 750,625 parameters.

    Args:
        in_channels: Channels of the stack, all contrasts together.
        out_channels: The same number.
        streams: Number of contrasts, of in_channels / streams channels each.
        fusion: Where and how contrasts are mixed: `latent` (at the coarsest level) and `skips` (at every level) by a
            1x1 convolution of both; `attention` at every level by transposed cross-attention, with queries from the
            contrast's own channels and keys and values from those of the others.
        shared: Use one encoder for all contrasts instead of one for each.
        widths: Channels of each level, full resolution first.
        blocks: Residual blocks of each level, once on the way down and once on the way up (the last level only once).

    Shape:
        Input (N, in_channels, H, W) of any H and W; it is padded by reflection to multiples of 2**(levels - 1), and
        the output is cropped back. Output of the same shape, in the units of the input.

    Raises:
        ConfigError: `widths` and `blocks` do not match, `in_channels` is not divisible by `streams`, or `out_channels`
            differs from `in_channels`.

    Source:
        Attention over channels: Zamir et al., Restormer, CVPR 2022.
    """

    def __init__(
        self,
        in_channels: Width = 2,
        out_channels: Width = 2,
        streams: Width = 2,
        fusion: Literal["latent", "skips", "attention"] = "latent",
        shared: bool = True,
        widths: Widths = (24, 48, 96),
        blocks: Depths = (1, 2, 3),
    ) -> None:
        super().__init__()
        check_residual(True, in_channels, out_channels)
        if not widths or len(widths) != len(blocks) or min(*widths, *blocks) < 1:
            raise ConfigError(
                f"fusion_unet: widths and blocks need equally many entries, all positive, got {widths}, {blocks}"
            )
        if streams < 2 or in_channels % streams:
            raise ConfigError(
                f"fusion_unet: streams must be 2 or more and divide in_channels ({in_channels}), got {streams}: "
                "set it to the number of contrasts"
            )
        self.streams = streams
        channels = in_channels // streams
        self.encoders = nn.ModuleList(
            _ContrastEncoder(channels, widths, blocks) for _ in range(1 if shared else streams)
        )
        mixer = _AttentionFusion if fusion == "attention" else _ConcatFusion
        first = len(widths) - 1 if fusion == "latent" else 0
        self.mixers = nn.ModuleDict({str(depth): mixer(widths[depth]) for depth in range(first, len(widths))})
        upwards = list(zip(widths, widths[1:], blocks, strict=False))[::-1]
        self.doublings = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse, _ in upwards)
        self.up = nn.ModuleList(residual_blocks(fine, n) for fine, _, n in upwards)
        self.tail = nn.Conv2d(widths[0], channels, 3, padding=1)
        self.multiple = 2 ** (len(widths) - 1)
        init_near_identity(self, self.tail)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Restore stacks of contrasts (N, C, H, W)."""
        # The multiple depends on the instance, so the decorator is applied here and not at the definition.
        return padded(self.multiple)(FusionUNet._restore)(self, image_NCHW)

    def _restore(self, image_NCHW: Tensor) -> Tensor:
        """Encode, fuse and decode stacks whose sides are multiples of `self.multiple`."""
        features = self._encode(image_NCHW)
        for depth, mix in self.mixers.items():
            own = features[int(depth)]
            by_stream = own.unflatten(0, (self.streams, -1))
            others = (by_stream.sum(0, keepdim=True) - by_stream) / (self.streams - 1)
            features[int(depth)] = mix(own, others.flatten(0, 1))
        x = features.pop()
        for double, blocks in zip(self.doublings, self.up, strict=True):
            x = blocks(double(x) + features.pop())
        return image_NCHW + torch.cat(self.tail(x).chunk(self.streams), dim=1)

    def _encode(self, image_NCHW: Tensor) -> list[Tensor]:
        """Encode each contrast; returns features of every level, contrasts stacked along the batch dimension."""
        contrasts = image_NCHW.chunk(self.streams, dim=1)
        if len(self.encoders) == 1:
            return self.encoders[0](torch.cat(contrasts))
        levels = [encoder(contrast) for encoder, contrast in zip(self.encoders, contrasts, strict=True)]
        return [torch.cat(level) for level in zip(*levels, strict=True)]


class _ContrastEncoder(nn.Module):
    """Encodes the images of one contrast; returns the features of every level, full resolution first."""

    def __init__(self, channels: int, widths: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(residual_blocks(width, n) for width, n in zip(widths, blocks, strict=True))
        self.halvings = nn.ModuleList(
            nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in itertools.pairwise(widths)
        )

    def forward(self, image_NCHW: Tensor) -> list[Tensor]:
        features = [self.down[0](self.head(image_NCHW))]
        for halve, blocks in zip(self.halvings, self.down[1:], strict=True):
            features.append(blocks(halve(features[-1])))
        return features


class _ConcatFusion(nn.Module):
    """own + conv1(concat[own, others])."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.last = nn.Conv2d(2 * width, width, 1)

    def forward(self, own: Tensor, others: Tensor) -> Tensor:
        return own + self.last(torch.cat([own, others], dim=1))


class _AttentionFusion(nn.Module):
    """own + conv1(attention), where channels of `own` attend to the channels of `others` that resemble them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.queries = nn.Conv2d(width, width, 1)
        self.keys_values = nn.Conv2d(width, 2 * width, 1)
        self.sharpness = nn.Parameter(torch.ones(()))
        self.last = nn.Conv2d(width, width, 1)

    def forward(self, own: Tensor, others: Tensor) -> Tensor:
        queries = self.queries(own).flatten(2)
        keys, values = self.keys_values(others).flatten(2).chunk(2, dim=1)
        # Similar channels have cosines near 1, where bfloat16 has steps of 1/256: compare them in float32.
        with torch.autocast(own.device.type, enabled=False):
            queries, keys = (functional.normalize(full_precision(x), dim=2) for x in (queries, keys))
            weights = (self.sharpness * (queries @ keys.transpose(1, 2))).softmax(dim=2)
        return own + self.last((weights.to(values.dtype) @ values).unflatten(2, own.shape[-2:]))
