"""Smoothed mean absolute difference."""

from torch import Tensor, nn

from quell.configs.errors import ConfigError
from quell.configs.sizes import Above
from quell.losses.common.pixel_differences import comparable_pair


class Charbonnier(nn.Module):
    """Mean of sqrt(|restored - target|**2 + eps**2), in the units of the images.

    Quadratic for differences below `eps` and absolute above, with a continuous gradient. For equal images it is `eps`,
    not 0.

    Args:
        eps: Width of the quadratic part, positive, in the units of the images.

    Shape:
        Inputs of equal shape, real or complex. Output: scalar in [eps, inf).

    Raises:
        ConfigError: `eps` is not positive.

    Source:
        Charbonnier et al., Two Deterministic Half-Quadratic Regularization Algorithms, ICIP 1994.
    """

    def __init__(self, eps: Above = 1e-3) -> None:
        super().__init__()
        if eps <= 0:
            raise ConfigError(f"charbonnier: eps must be positive, got {eps} (l1 is the loss without smoothing)")
        self.eps = eps

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Compare two batches of images; gradients flow into both."""
        restored, target = comparable_pair(restored, target)
        return ((restored - target).abs().square() + self.eps**2).sqrt().mean()
