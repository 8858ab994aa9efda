"""Mean absolute difference."""

from torch import Tensor, nn

from quell.losses.common.pixel_differences import comparable_pair, modulus


class L1(nn.Module):
    """Mean of |restored - target|, in the units of the images; for complex tensors, of the modulus.

    Between two copies of a complex image, one of them with noise of `sigma` per component, the complex loss is
    sigma * sqrt(pi / 2) = 1.2533 sigma.

    Args:
        modulus: The images' channels are real parts followed by imaginary parts; take sqrt(re**2 + im**2) per pixel,
            as for the complex image, instead of the mean of |re| and |im|.

    Shape:
        Inputs of equal shape, real or complex. Output: scalar in [0, inf).
    """

    def __init__(self, modulus: bool = False) -> None:
        super().__init__()
        self.modulus = modulus

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Compare two batches of images; gradients flow into both and are zero where they are equal."""
        restored, target = comparable_pair(restored, target)
        difference = restored - target
        if self.modulus and not difference.is_complex():
            return modulus(difference).mean()
        return difference.abs().mean()
