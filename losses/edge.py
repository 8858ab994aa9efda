"""Difference of edge strength."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from configs.errors import ConfigError
from losses.common.pixel_differences import checked_pair, modulus

EPS_SQUARED = 1e-12
"""Keeps the gradient finite where an image is flat."""


class Edge(nn.Module):
    """Mean of |S(restored) - S(target)|, S = sqrt(gx**2 + gy**2 + 1e-12) the Sobel magnitude of the images' magnitude.

    Units of the images times 8: the Sobel kernels ([1, 2, 1] across, [1, 0, -1] along) are not normalised. No padding:
    the border of one pixel is left out. Channels one by one. Raises ConfigError for images below 3 px a side.
    `modulus=True` takes real tensors whose channels are real parts then imaginary parts, as the complex image.
    Source: edge term of "Contrast2Contrast".
    """

    def __init__(self, modulus: bool = False) -> None:
        super().__init__()
        self.modulus = modulus

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """The loss of two NCHW batches at least 3 px a side, a scalar."""
        restored, target = checked_pair(restored, target)
        height, width = restored.shape[-2:]
        if min(height, width) < 3:
            raise ConfigError(f"the edge loss needs images of at least 3x3 px, but these are {height}x{width}")
        return (self._strength(restored) - self._strength(target)).abs().mean()

    def _strength(self, image_NCHW: Tensor) -> Tensor:
        magnitude = modulus(image_NCHW) if self.modulus and not image_NCHW.is_complex() else image_NCHW.abs()
        planes = magnitude.flatten(0, 1).unsqueeze(1)
        smooth, slope = planes.new_tensor([1.0, 2.0, 1.0]), planes.new_tensor([1.0, 0.0, -1.0])
        kernels = torch.stack([torch.outer(smooth, slope), torch.outer(slope, smooth)]).unsqueeze(1)
        with torch.autocast(planes.device.type, enabled=False):
            gradients = functional.conv2d(planes, kernels)
        return (gradients.square().sum(dim=1) + EPS_SQUARED).sqrt()
