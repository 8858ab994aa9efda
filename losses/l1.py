"""Mean absolute difference."""

from torch import Tensor, nn

from losses.common.pixel_differences import checked_pair, modulus


class L1(nn.Module):
    """Mean of |restored - target|, in the units of the images; of the complex modulus for complex tensors.

    `modulus=True` takes real tensors whose channels are real parts then imaginary parts, and gives the number that the
    complex image would give: sqrt(re**2 + im**2) per pixel instead of the mean of |re| and |im|. Between two copies of
    a complex image with noise of `sigma` per component on one of them it is sigma * sqrt(pi / 2) = 1.2533 sigma.
    """

    def __init__(self, modulus: bool = False) -> None:
        super().__init__()
        self.modulus = modulus

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """The loss of two batches of one shape, a scalar in the units of the images."""
        restored, target = checked_pair(restored, target)
        difference = restored - target
        if self.modulus and not difference.is_complex():
            return modulus(difference).mean()
        return difference.abs().mean()
