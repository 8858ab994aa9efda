"""Mean squared difference."""

from torch import Tensor, nn

from losses.common.pixel_differences import checked_pair


class L2(nn.Module):
    """Mean of |restored - target|**2, in squared units of the images; of the squared modulus for complex tensors."""

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """The loss of two batches of one shape, a scalar in squared units of the images."""
        restored, target = checked_pair(restored, target)
        return (restored - target).abs().square().mean()
