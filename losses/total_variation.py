"""Roughness of an image: mean absolute difference of neighbouring pixels."""

from torch import Tensor, nn

from losses.common.pixel_differences import full_precision


class TotalVariation(nn.Module):
    """Mean of |x(i+1, j) - x(i, j)| plus mean of |x(i, j+1) - x(i, j)|, in the units of the image.

    The target is not read. Anisotropic total variation per pixel and channel; a direction of one pixel counts nothing.
    `squared`: twice the means of the squares, in squared units, as in the code of the TCFL reproduction; it blurs edges
    where the other does not. Source: Rudin, Osher and Fatemi, Physica D 1992.
    """

    def __init__(self, squared: bool = False) -> None:
        super().__init__()
        self.squared = squared

    def forward(self, restored_NCHW: Tensor, target_NCHW: Tensor | None = None) -> Tensor:
        """Scalar; 0 for constant images."""
        x = full_precision(restored_NCHW)
        steps = [step.abs() for step in (x.diff(dim=-2), x.diff(dim=-1)) if step.numel()]
        means = [2 * step.square().mean() if self.squared else step.mean() for step in steps]
        return sum(means, start=x.real.new_zeros(()))
