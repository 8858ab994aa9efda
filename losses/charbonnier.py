"""Smoothed mean absolute difference."""

from torch import Tensor, nn

from configs.errors import ConfigError
from losses.common.pixel_differences import checked_pair


class Charbonnier(nn.Module):
    """Mean of sqrt(|restored - target|**2 + eps**2), in the units of the images; `eps`, not 0, for equal images.

    Quadratic for differences below `eps`, absolute above. Source: Charbonnier et al., ICIP 1994.
    """

    def __init__(self, eps: float = 1e-3) -> None:
        super().__init__()
        if eps <= 0:
            raise ConfigError(
                f"the eps of the Charbonnier loss is {eps}; it must be positive (use l1 for no smoothing)"
            )
        self.eps = eps

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """The loss of two NCHW batches, a scalar in the units of the images; at least `eps`."""
        restored, target = checked_pair(restored, target)
        return ((restored - target).abs().square() + self.eps**2).sqrt().mean()
