"""Difference of edges: mean absolute difference of Laplacians."""

from torch import Tensor, nn

from quell.configs.errors import ConfigError
from quell.losses.common.pixel_differences import comparable_pair


class Laplacian(nn.Module):
    """Mean of |laplacian(restored) - laplacian(target)| per channel, in the units of the images.

    The kernel is [0 1 0; 1 -4 1; 0 1 0], without padding: the outermost pixels do not count. The loss is blind to
    offsets and linear ramps, so it needs another one beside it. For complex tensors it is of the modulus of the
    difference.

    Shape:
        Inputs (N, C, H, W) of equal shape, at least 3 px a side. Output: scalar in [0, inf).

    Raises:
        ConfigError: In `forward`, for images below 3 px a side.

    Source:
        The "gradient loss" of the Spectroformer scripts.
    """

    def forward(self, restored_NCHW: Tensor, target_NCHW: Tensor) -> Tensor:
        """Compare two batches of images; gradients flow into both."""
        restored_NCHW, target_NCHW = comparable_pair(restored_NCHW, target_NCHW)
        height, width = restored_NCHW.shape[-2:]
        if min(height, width) < 3:
            raise ConfigError(f"the laplacian loss needs images of at least 3x3 px, got {height}x{width}")
        # The Laplacian is linear: one of the difference is the difference of two. Sums of slices need no convolution,
        # which autocast would run in half precision.
        d = restored_NCHW - target_NCHW
        horizontal = d[..., 1:-1, :-2] + d[..., 1:-1, 2:]
        vertical = d[..., :-2, 1:-1] + d[..., 2:, 1:-1]
        return (horizontal + vertical - 4 * d[..., 1:-1, 1:-1]).abs().mean()
