"""The transformer block of Spectroformer: channel attention with a second query from the spectrum (MQCA), and GDFN.

Source: Khan et al., WACV 2024, after Restormer (Zamir et al., CVPR 2022).

FFTs, attention and normalisation run in float32 whatever autocast does around them: half precision has no FFT for most
sizes, and rounds away the small differences between cosines that attention depends on.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quell.configs.export_mode.flag import is_exporting
from quell.models.blocks.precision import full_precision

Spectrum = Literal["real", "complex"]
"""What a frequency filter reads of a spectrum: its real part, or real and imaginary parts as separate channels."""

EPS = 1e-6
"""Smallest norm that queries and keys are divided by."""


def conv1(in_channels: int, out_channels: int, *, bias: bool = False) -> nn.Conv2d:
    """A 1x1 convolution."""
    return nn.Conv2d(in_channels, out_channels, 1, bias=bias)


class FrequencyFilter(nn.Module):
    """Filter an image in its spectrum: FFT, 1x1 convolution, GELU, 1x1 convolution, inverse FFT.

    `real` keeps only the real part of the spectrum, as the official code does; that is the spectrum of the image's even
    (point-symmetric) part. `complex` mixes real and imaginary parts as twice the channels. The spectrum of a real image
    is Hermitian, so only half of it is computed.
    """

    def __init__(self, channels: int, *, spectrum: Spectrum, bias: bool = False) -> None:
        super().__init__()
        self.spectrum = spectrum
        width = channels if spectrum == "real" else 2 * channels
        self.mix = nn.Sequential(conv1(width, width, bias=bias), nn.GELU(), conv1(width, width, bias=bias))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Filter real features (N, C, H, W); the result is real, of the same shape, at least float32."""
        size = x_NCHW.shape[-2:]
        with torch.autocast(x_NCHW.device.type, enabled=False):
            x_NCHW = full_precision(x_NCHW)
            if self.spectrum == "real":
                mixed = self.mix(torch.fft.rfft2(x_NCHW).real)
                return torch.fft.irfft2(torch.complex(mixed, torch.zeros_like(mixed)), s=size)
            half = torch.fft.rfft2(x_NCHW, norm="ortho")
            real, imaginary = self.mix(torch.cat([half.real, half.imag], 1)).chunk(2, 1)
            return torch.fft.irfft2(torch.complex(real, imaginary), s=size, norm="ortho")


class QueryCascade(nn.Module):
    """MQCA: channel attention in space, then again with a query from the spectrum on the first one's result.

    Keys and values of the second attention are computed from the output of the first. One temperature per head serves
    both, as published. The official code computes the second attention map and then applies the first one again, so
    that its frequency query never learns. `repeats_first` does the same, without the query; otherwise the second map is
    applied, as the paper describes it.
    """

    def __init__(self, channels: int, heads: int, *, spectrum: Spectrum, repeats_first: bool = False) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(1, heads, 1, 1))
        self.first = nn.Sequential(conv1(channels, 3 * channels), _depthwise(3 * channels))
        self.between = conv1(channels, channels)
        self.query = None if repeats_first else FrequencyFilter(channels, spectrum=spectrum)
        self.second = nn.Sequential(conv1(channels, 2 * channels), _depthwise(2 * channels))
        self.out = conv1(channels, channels)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Features (N, C, H, W) to the same shape; C must be divisible by the number of heads."""
        query, key, value = self.first(x_NCHW).chunk(3, 1)
        first_map = self._map(query, key)
        spatial = self.between(self._attend(first_map, value))
        key, value = self.second(spatial).chunk(2, 1)
        second_map = first_map if self.query is None else self._map(self.query(x_NCHW), key)
        return self.out(self._attend(second_map, value))

    def _map(self, query: Tensor, key: Tensor) -> Tensor:
        """How much each channel of a head takes from each other, (N, heads, C', C'), by the cosines of their images."""
        N, C, H, W = key.shape
        heads = self.temperature.shape[1]
        with torch.autocast(key.device.type, enabled=False):
            q = full_precision(query).reshape(N, heads, C // heads, H * W)
            k = full_precision(key).reshape(N, heads, C // heads, H * W)
            # Dividing the C x C products by the norms is cheaper than normalising the C x HW queries and keys first.
            norms = q.norm(dim=-1).clamp_min(EPS)[..., None] * k.norm(dim=-1).clamp_min(EPS)[..., None, :]
            return torch.softmax(q @ k.transpose(-2, -1) / norms * self.temperature, dim=-1)

    def _attend(self, attention: Tensor, value: Tensor) -> Tensor:
        """Mix the values over the channels of each head."""
        N, C, H, W = value.shape
        heads = self.temperature.shape[1]
        return (attention.to(value.dtype) @ value.reshape(N, heads, C // heads, H * W)).reshape(N, C, H, W)


class GatedFeedForward(nn.Module):
    """GDFN: expand, filter depthwise, and let one half of the channels gate the other through GELU."""

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.wide = nn.Sequential(conv1(channels, 2 * hidden), _depthwise(2 * hidden))
        self.out = conv1(hidden, channels)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Features (N, C, H, W) to the same shape."""
        gate, features = self.wide(x_NCHW).chunk(2, 1)
        return self.out(F.gelu(gate) * features)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel, in float32."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Features (N, C, H, W) to the same shape and memory format, at least float32."""
        with torch.autocast(x_NCHW.device.type, enabled=False):
            x_NCHW = full_precision(x_NCHW)
            if is_exporting() or (x_NCHW.is_contiguous() and x_NCHW.device.type == "cpu"):
                return self._forward_contiguous(x_NCHW)
            return super().forward(x_NCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def _forward_contiguous(self, x_NCHW: Tensor) -> Tensor:
        """The same by its formula, without the two transpositions, which take longer on CPU than the norm itself."""
        centred = x_NCHW - x_NCHW.mean(1, keepdim=True)
        scale = (centred.square().mean(1, keepdim=True) + self.eps).rsqrt()
        return centred * scale * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


class TransformerBlock(nn.Module):
    """x + MQCA(norm(x)), then x + GDFN(norm(x))."""

    def __init__(
        self, channels: int, heads: int, *, expansion: float, spectrum: Spectrum, repeats_first: bool = False
    ) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.attention = QueryCascade(channels, heads, spectrum=spectrum, repeats_first=repeats_first)
        self.norm2 = ChannelNorm(channels)
        self.feed = GatedFeedForward(channels, expansion)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Features (N, C, H, W) to the same shape."""
        x_NCHW = x_NCHW + self.attention(self.norm1(x_NCHW))
        return x_NCHW + self.feed(self.norm2(x_NCHW))


def _depthwise(channels: int) -> nn.Conv2d:
    """A 3x3 convolution of each channel on its own."""
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
