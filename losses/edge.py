"""Difference of edge strength."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from quell.configs.errors import ConfigError
from quell.losses.common.pixel_differences import comparable_pair, modulus

EPS_SQUARED = 1e-12
"""Keeps the gradient of the square root finite where an image is flat."""


class Edge(nn.Module):
    """Mean of |S(restored) - S(target)|, where S = sqrt(gx**2 + gy**2 + 1e-12) is the Sobel magnitude.

    S is computed of the images' absolute values (moduli), channel by channel, without padding: the outermost pixels do
    not count. The Sobel kernels ([1, 2, 1] across the edge, [1, 0, -1] along) are not normalised, so the loss is in the
    units of the images times 8.

    Args:
        modulus: The images' channels are real parts followed by imaginary parts; compare them as complex images.

    Shape:
        Inputs (N, C, H, W) of equal shape, real or complex, at least 3 px a side. Output: scalar in [0, inf).

    Raises:
        ConfigError: In `forward`, for images below 3 px a side.

    Source:
        Edge term of "Contrast2Contrast".
    """

    kernels: Tensor

    def __init__(self, modulus: bool = False) -> None:
        super().__init__()
        self.modulus = modulus
        smooth, slope = torch.tensor([1.0, 2.0, 1.0]), torch.tensor([1.0, 0.0, -1.0])
        kernels = torch.stack([torch.outer(smooth, slope), torch.outer(slope, smooth)]).unsqueeze(1)
        # a buffer, for a constant made in every step would be copied to the device, which the host waits for
        self.register_buffer("kernels", kernels, persistent=False)

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Compare two batches of images; gradients flow into both."""
        restored, target = comparable_pair(restored, target)
        height, width = restored.shape[-2:]
        if min(height, width) < 3:
            raise ConfigError(f"the edge loss needs images of at least 3x3 px, got {height}x{width}")
        return (self._strength(restored) - self._strength(target)).abs().mean()

    def _strength(self, image_NCHW: Tensor) -> Tensor:
        """Sobel magnitude, (N * C, H - 2, W - 2)."""
        magnitude = modulus(image_NCHW) if self.modulus and not image_NCHW.is_complex() else image_NCHW.abs()
        planes = magnitude.flatten(0, 1).unsqueeze(1)
        # Autocast would convolve in half precision, which rounds away weak edges of bright images.
        with torch.autocast(planes.device.type, enabled=False):
            gradients = functional.conv2d(planes, self.kernels.to(planes.dtype))
        return (gradients.square().sum(dim=1) + EPS_SQUARED).sqrt()
