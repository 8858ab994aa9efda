"""Mean squared difference."""

from torch import Tensor, nn

from quell.losses.common.pixel_differences import comparable_pair


class L2(nn.Module):
    """Mean of |restored - target|**2, in squared units of the images; for complex tensors, of the squared modulus.

    Shape:
        Inputs of equal shape, real or complex. Output: scalar in [0, inf).
    """

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Compare two batches of images; gradients flow into both."""
        restored, target = comparable_pair(restored, target)
        return (restored - target).abs().square().mean()
