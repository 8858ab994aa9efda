"""How Spectroformer moves between resolutions: downsampling, Fourier-and-space upsampling (HFSUB), skips (SSFB), gates.

Khan et al., WACV 2024. Two identities of the published design are used here because they are exact and cheaper, and are
held by tests against the literal formulas:
- a spectrum tiled 2x2 is the spectrum of the image with zeros put between its pixels;
- the mean of a phase-only image is the sign of the image's sum divided by its pixels, so the published gate (AGSSF) is
  within 1/(H W) of one half. `EnergyGate` (efficient channel attention, Wang et al., CVPR 2020) reads the mean itself.
"""

import math

import torch
from torch import Tensor, nn

from models.blocks.precision import full_precision
from models.blocks.spectro_attention import FrequencyFilter, conv1

PHASE_FLOOR = 1e-3
"""Magnitude below which the phase's gradient, 1/magnitude, stops growing."""


class Down(nn.Module):
    """Half the size, twice the channels: 3x3 convolution to half the channels, then pixel unshuffle."""

    def __init__(self, channels: int, *, adjust: bool) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False)
        self.fold = nn.PixelUnshuffle(2)
        self.adjust = conv1(2 * channels, 2 * channels) if adjust else nn.Identity()

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 2 C, H/2, W/2)."""
        return self.adjust(self.fold(self.narrow(x_NCHW)))


class HybridUp(nn.Module):
    """HFSUB: twice the size, half the channels, from a Fourier branch and a pixel-shuffle branch."""

    def __init__(self, channels: int, *, bias: bool) -> None:
        super().__init__()
        self.fourier = _FourierUp(channels, bias=bias)
        self.space = nn.Sequential(nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False), nn.PixelShuffle(2))
        self.fuse = conv1(channels, channels // 2)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C/2, 2 H, 2 W)."""
        return self.fuse(torch.cat([self.fourier(x_NCHW), self.space(x_NCHW)], 1))


class PhaseGate(nn.Module):
    """AGSSF as published: channels weighted by what a 1-D convolution makes of their phase-only images' means.

    The mean of a phase-only image is its zero frequency, sign(sum)/(H W): all gates stay near one half.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        kernel = _odd_kernel(channels)
        self.mix = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        with torch.autocast(x_NCHW.device.type, enabled=False):
            total_NC = full_precision(x_NCHW).sum((2, 3))
            mean_NC = torch.where(total_NC < 0, -1.0, 1.0).to(total_NC) / (x_NCHW.shape[2] * x_NCHW.shape[3])
            gate = torch.sigmoid(self.mix(mean_NC[:, None]))[:, 0, :, None, None]
        return x_NCHW * gate.to(x_NCHW.dtype)


class EnergyGate(nn.Module):
    """Channels weighted by what a 1-D convolution makes of their means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        kernel = max(3, _odd_kernel(channels))
        self.mix = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        with torch.autocast(x_NCHW.device.type, enabled=False):
            gate = torch.sigmoid(self.mix(full_precision(x_NCHW).mean((2, 3))[:, None]))[:, 0, :, None, None]
        return x_NCHW * gate.to(x_NCHW.dtype)


class OfficialSkip(nn.Module):
    """SSFB as in the official code: a spatial and a spectral branch, gated alike, concatenated and fused."""

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
        """(N, C, H, W) to the same."""
        space = self.gate(self.space(x_NCHW)) + self.space_identity(x_NCHW)
        spectrum = self.gate(self.spectrum(x_NCHW)) + self.spectrum_identity(x_NCHW)
        return self.fuse(torch.cat([space, spectrum], 1))


class SummedSkip(nn.Module):
    """SSFB as in the user's reproduction of the paper: the branches are added, fused, and gated by their means."""

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
        """(N, C, H, W) to the same."""
        space = self.space(x_NCHW) + self.space_identity(x_NCHW)
        spectrum = self.spectrum(x_NCHW) + self.spectrum_identity(x_NCHW)
        return self.gate(self.fuse(space + spectrum))


def phase(spectrum: Tensor) -> Tensor:
    """Angle of a complex tensor in (-pi, pi], with a gradient that stays finite where the magnitude vanishes.

    Values that are real up to rounding count as real, so that the sign of a rounding error does not turn pi into -pi.
    """
    real, imaginary = spectrum.real, spectrum.imag
    fixed_real, fixed_imaginary = real.detach(), imaginary.detach()
    power = fixed_real.square() + fixed_imaginary.square()
    rounded = torch.where(fixed_imaginary.square() > 1e-12 * power, fixed_imaginary, torch.zeros_like(power))
    slope = (fixed_real * imaginary - fixed_imaginary * real) / (power + PHASE_FLOOR**2)  # zero in value
    return torch.atan2(rounded, fixed_real) + slope


class _FourierUp(nn.Module):
    """Magnitude and phase each through two 1x1 convolutions, back to an image, absolute value, zeros between pixels."""

    def __init__(self, channels: int, *, bias: bool) -> None:
        super().__init__()
        self.magnitude = self._mix(channels, bias)
        self.phase = self._mix(channels, bias)
        self.post = conv1(channels, channels // 2, bias=bias)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        N, C, H, W = x_NCHW.shape
        with torch.autocast(x_NCHW.device.type, enabled=False):
            spectrum = torch.fft.fft2(full_precision(x_NCHW))
            magnitude, angle = self.magnitude(spectrum.abs()), self.phase(phase(spectrum))
            image = torch.fft.ifft2(torch.complex(magnitude * angle.cos(), magnitude * angle.sin())).abs()
            spread = image.new_zeros(N, C, H, 2, W, 2)
            spread[:, :, :, 0, :, 0] = image
            return self.post(spread.view(N, C, 2 * H, 2 * W))

    @staticmethod
    def _mix(channels: int, bias: bool) -> nn.Sequential:
        first, second = (conv1(channels, channels, bias=bias) for _ in range(2))
        return nn.Sequential(first, nn.LeakyReLU(0.1), second)


def _odd_kernel(channels: int) -> int:
    """Width of the 1-D convolution over channels: the odd number next to log2(C)/2 + 1/2 (ECA, eq. 12)."""
    width = int(abs(math.log2(channels) / 2 + 0.5))
    return width if width % 2 else width + 1
