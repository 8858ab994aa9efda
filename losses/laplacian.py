"""Difference of edges: mean absolute difference of Laplacians."""

from torch import Tensor, nn

from configs.errors import ConfigError
from losses.common.pixel_differences import checked_pair


class Laplacian(nn.Module):
    """Mean of |laplacian(restored) - laplacian(target)| per channel, in the units of the images.

    The kernel is [0 1 0; 1 -4 1; 0 1 0] without padding, so the outermost pixels do not count. Complex tensors: of the
    modulus. Source: the "gradient loss" of the Spectroformer scripts. Raises ConfigError below 3 pixels.
    """

    def forward(self, restored_NCHW: Tensor, target_NCHW: Tensor) -> Tensor:
        """Scalar; 0 for images that differ by any linear ramp."""
        restored_NCHW, target_NCHW = checked_pair(restored_NCHW, target_NCHW)
        height, width = restored_NCHW.shape[-2:]
        if min(height, width) < 3:
            raise ConfigError(f"the laplacian loss needs images of at least 3x3 px, but these are {height}x{width}")
        d = restored_NCHW - target_NCHW
        across = d[..., 1:-1, :-2] + d[..., 1:-1, 2:]
        down = d[..., :-2, 1:-1] + d[..., 2:, 1:-1]
        return (across + down - 4 * d[..., 1:-1, 1:-1]).abs().mean()
