"""U-Net with one encoder per contrast and one decoder: where the contrasts meet is a setting."""

import itertools
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from configs.errors import ConfigError
from models.blocks.padding import padded
from models.blocks.precision import full_precision
from models.blocks.residual import check_residual
from models.blocks.residual_blocks import draw_weights, level


class FusionUNet(nn.Module):
    """Stack of contrasts (N, C, H, W) to the stack restored, any H and W; `streams` contrasts of C / streams channels.

    Each contrast has an encoder (`shared`: the same weights for all) and is decoded by one decoder from its own
    features, into which those of the others (their mean) are mixed: `latent` at the coarsest level only, `skips` at
    every level, both by a 1x1 convolution of the two; `attention` at every level by transposed cross-attention, whose
    queries are the contrast's own channels and whose keys and values are the others' (Zamir et al., Restormer, CVPR
    2022). Mixing is added to the own features and begins small. Blocks, halvings and doublings as in `residual_unet`,
    which is the fourth place: contrasts that meet at the input.

    A pass costs `streams` times one of `residual_unet`. Two channels and the defaults: 750,625 parameters.
    """

    def __init__(
        self,
        in_channels: int = 2,
        out_channels: int = 2,
        streams: int = 2,
        fusion: Literal["latent", "skips", "attention"] = "latent",
        shared: bool = True,
        widths: tuple[int, ...] = (24, 48, 96),
        blocks: tuple[int, ...] = (1, 2, 3),
    ) -> None:
        super().__init__()
        check_residual(True, in_channels, out_channels)
        if not widths or len(widths) != len(blocks) or min(*widths, *blocks) < 1:
            raise ConfigError(f"fusion_unet: each width needs its positive number of blocks, not {widths}, {blocks}")
        if streams < 2 or in_channels % streams:
            raise ConfigError(
                f"fusion_unet: {in_channels} channels cannot be {streams} contrasts of equal channels; "
                "set streams to the number of contrasts (two or more)"
            )
        self.streams = streams
        channels = in_channels // streams
        self.encoders = nn.ModuleList(_Encoder(channels, widths, blocks) for _ in range(1 if shared else streams))
        mixer = _CrossAttention if fusion == "attention" else _Concatenation
        first = len(widths) - 1 if fusion == "latent" else 0
        self.mixers = nn.ModuleDict({str(depth): mixer(widths[depth]) for depth in range(first, len(widths))})
        upwards = list(zip(widths, widths[1:], blocks, strict=False))[::-1]
        self.doublings = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse, _ in upwards)
        self.up = nn.ModuleList(level(fine, n) for fine, _, n in upwards)
        self.tail = nn.Conv2d(widths[0], channels, 3, padding=1)
        self.multiple = 2 ** (len(widths) - 1)
        draw_weights(self, self.tail)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """The restored stack, (N, C, H, W)."""
        return padded(self.multiple)(FusionUNet._restored)(self, image_NCHW)

    def _restored(self, image_NCHW: Tensor) -> Tensor:
        features = self._encoded(image_NCHW)
        for depth, mix in self.mixers.items():
            own = features[int(depth)]
            apart = own.unflatten(0, (self.streams, -1))
            others = (apart.sum(0, keepdim=True) - apart) / (self.streams - 1)
            features[int(depth)] = mix(own, others.flatten(0, 1))
        x = features.pop()
        for double, blocks in zip(self.doublings, self.up, strict=True):
            x = blocks(double(x) + features.pop())
        return image_NCHW + torch.cat(self.tail(x).chunk(self.streams), dim=1)

    def _encoded(self, image_NCHW: Tensor) -> list[Tensor]:
        """Features of every level, all contrasts one after the other along the batch."""
        contrasts = image_NCHW.chunk(self.streams, dim=1)
        if len(self.encoders) == 1:
            return self.encoders[0](torch.cat(contrasts))
        levels = [encode(x) for encode, x in zip(self.encoders, contrasts, strict=True)]
        return [torch.cat(same) for same in zip(*levels, strict=True)]


class _Encoder(nn.Module):
    """An image to its features at every level, full resolution first."""

    def __init__(self, channels: int, widths: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(level(width, n) for width, n in zip(widths, blocks, strict=True))
        self.halvings = nn.ModuleList(
            nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in itertools.pairwise(widths)
        )

    def forward(self, image_NCHW: Tensor) -> list[Tensor]:
        features = [self.down[0](self.head(image_NCHW))]
        for halve, blocks in zip(self.halvings, self.down[1:], strict=True):
            features.append(blocks(halve(features[-1])))
        return features


class _Concatenation(nn.Module):
    """own + 1x1 convolution of [own, others]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.last = nn.Conv2d(2 * width, width, 1)

    def forward(self, own: Tensor, others: Tensor) -> Tensor:
        return own + self.last(torch.cat([own, others], dim=1))


class _CrossAttention(nn.Module):
    """own + 1x1 convolution of the others' channels, weighted by how much they look like the own ones."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.queries = nn.Conv2d(width, width, 1)
        self.keys_values = nn.Conv2d(width, 2 * width, 1)
        self.sharpness = nn.Parameter(torch.ones(()))
        self.last = nn.Conv2d(width, width, 1)

    def forward(self, own: Tensor, others: Tensor) -> Tensor:
        queries = self.queries(own).flatten(2)
        keys, values = self.keys_values(others).flatten(2).chunk(2, dim=1)
        with torch.autocast(own.device.type, enabled=False):
            queries, keys = (functional.normalize(full_precision(x), dim=2) for x in (queries, keys))
            weights = (self.sharpness * (queries @ keys.transpose(1, 2))).softmax(dim=2)
        return own + self.last((weights.to(values.dtype) @ values).unflatten(2, own.shape[-2:]))
