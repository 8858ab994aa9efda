"""Spectroformer's skip connections (SSFB) and the channel gates inside them.

Source: Khan et al., WACV 2024. The published gate (AGSSF) weights each channel by the mean of its phase-only image.
That mean is the sign of the channel's sum over the number of pixels, so it is computed without an FFT (a test compares
the two), and the gate can hardly move from one half. `EnergyGate` reads the channel's mean itself.
"""

import math

import torch
from torch import Tensor, nn

from quell.models.blocks.precision import full_precision
from quell.models.blocks.spectroformer_attention import FrequencyFilter, conv1


class PhaseGate(nn.Module):
    """AGSSF as published: weight channels by a 1-D convolution over the means of their phase-only images.

    The mean of a phase-only image is its zero frequency, sign(sum) / (H W), so every gate is within 1 / (H W) times the
    convolution's weights of one half.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        kernel = _odd_kernel(channels)
        self.mix = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Features (N, C, H, W) to the same shape."""
        with torch.autocast(x_NCHW.device.type, enabled=False):
            total_NC = full_precision(x_NCHW).sum((2, 3))
            mean_NC = torch.where(total_NC < 0, -1.0, 1.0).to(total_NC) / (x_NCHW.shape[2] * x_NCHW.shape[3])
            gate = torch.sigmoid(self.mix(mean_NC[:, None]))[:, 0, :, None, None]
        return x_NCHW * gate.to(x_NCHW.dtype)


class EnergyGate(nn.Module):
    """Weight channels by a 1-D convolution over their means.

    Source: efficient channel attention (ECA), Wang et al., CVPR 2020.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        kernel = max(3, _odd_kernel(channels))
        self.mix = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Features (N, C, H, W) to the same shape."""
        with torch.autocast(x_NCHW.device.type, enabled=False):
            gate = torch.sigmoid(self.mix(full_precision(x_NCHW).mean((2, 3))[:, None]))[:, 0, :, None, None]
        return x_NCHW * gate.to(x_NCHW.dtype)


class OfficialSkip(nn.Module):
    """SSFB as in the official code: a spatial and a spectral branch, gated by one gate, concatenated and fused."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.space = nn.Sequential(
            conv1(channels, 2 * channels, bias=True),
            nn.PReLU(),
            nn.Conv2d(2 * channels, channels, 3, padding=1, groups=channels),
            nn.PReLU(),
        )
        self.spectrum = FrequencyFilter(channels, spectrum="real", bias=True)
        self.gate = PhaseGate(channels)
        self.space_identity = conv1(channels, channels, bias=True)
        self.spectrum_identity = conv1(channels, channels, bias=True)
        self.fuse = conv1(2 * channels, channels, bias=True)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Features (N, C, H, W) to the same shape."""
        space = self.gate(self.space(x_NCHW)) + self.space_identity(x_NCHW)
        spectrum = self.gate(self.spectrum(x_NCHW)) + self.spectrum_identity(x_NCHW)
        return self.fuse(torch.cat([space, spectrum], 1))


class SummedSkip(nn.Module):
    """SSFB as in the reproduction from the paper's text: the branches are added, fused, and gated by their means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.space = nn.Sequential(conv1(channels, channels), nn.PReLU(), depthwise)
        self.spectrum = FrequencyFilter(channels, spectrum="complex")
        self.space_identity = conv1(channels, channels)
        self.spectrum_identity = conv1(channels, channels)
        self.fuse = conv1(channels, channels)
        self.gate = EnergyGate(channels)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Features (N, C, H, W) to the same shape."""
        space = self.space(x_NCHW) + self.space_identity(x_NCHW)
        spectrum = self.spectrum(x_NCHW) + self.spectrum_identity(x_NCHW)
        return self.gate(self.fuse(space + spectrum))


def _odd_kernel(channels: int) -> int:
    """Kernel size of the 1-D convolution over channels: the odd number next to log2(C)/2 + 1/2 (ECA, equation 12)."""
    size = int(abs(math.log2(channels) / 2 + 0.5))
    return size if size % 2 else size + 1
