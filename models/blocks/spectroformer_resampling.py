"""How Spectroformer changes resolution: downsampling, and upsampling in the Fourier domain and in space (HFSUB).

Source: Khan et al., WACV 2024. The published upsampling tiles a spectrum 2x2. That is exactly the spectrum of the image
with zeros inserted between its pixels, which is cheaper and computed here (a test compares the two).
"""

import torch
from torch import Tensor, nn

from quell.models.blocks.precision import full_precision
from quell.models.blocks.spectroformer_attention import conv1

PHASE_FLOOR = 1e-3
"""Magnitude below which the gradient of the phase, 1/magnitude, stops growing."""


class Downsample(nn.Module):
    """Half the size, twice the channels: 3x3 convolution to half the channels, then pixel unshuffle."""

    def __init__(self, channels: int, *, adjust: bool) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False)
        self.fold = nn.PixelUnshuffle(2)
        self.adjust = conv1(2 * channels, 2 * channels) if adjust else nn.Identity()

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Features (N, C, H, W) to (N, 2 C, H/2, W/2)."""
        return self.adjust(self.fold(self.narrow(x_NCHW)))


class HybridUpsample(nn.Module):
    """HFSUB: twice the size, half the channels, from a Fourier branch and a pixel-shuffle branch."""

    def __init__(self, channels: int, *, bias: bool) -> None:
        super().__init__()
        self.fourier = FourierUpsample(channels, bias=bias)
        self.space = nn.Sequential(nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False), nn.PixelShuffle(2))
        self.fuse = conv1(channels, channels // 2)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Features (N, C, H, W) to (N, C/2, 2 H, 2 W)."""
        return self.fuse(torch.cat([self.fourier(x_NCHW), self.space(x_NCHW)], 1))


class FourierUpsample(nn.Module):
    """Mix magnitudes and phases by two 1x1 convolutions each, transform back, take moduli, insert zeros."""

    def __init__(self, channels: int, *, bias: bool) -> None:
        super().__init__()
        self.magnitude = self._mix(channels, bias)
        self.phase = self._mix(channels, bias)
        self.post = conv1(channels, channels // 2, bias=bias)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Features (N, C, H, W) to (N, C/2, 2 H, 2 W), at least float32."""
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


def phase(spectrum: Tensor) -> Tensor:
    """Angle of a complex tensor in (-pi, pi], with a gradient that stays finite where the magnitude vanishes.

    Values that are real up to rounding count as real, so that the sign of a rounding error does not turn pi into -pi.
    """
    real, imaginary = spectrum.real, spectrum.imag
    fixed_real, fixed_imaginary = real.detach(), imaginary.detach()
    power = fixed_real.square() + fixed_imaginary.square()
    rounded = torch.where(fixed_imaginary.square() > 1e-12 * power, fixed_imaginary, torch.zeros_like(power))
    # Zero in value, and the only part with a gradient: that of the angle with a floor under the squared magnitude.
    slope = (fixed_real * imaginary - fixed_imaginary * real) / (power + PHASE_FLOOR**2)
    return torch.atan2(rounded, fixed_real) + slope
