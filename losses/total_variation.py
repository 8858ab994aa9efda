"""Roughness of an image: mean absolute difference of neighbouring pixels."""

from torch import Tensor, nn

from quell.losses.common.pixel_differences import full_precision


class TotalVariation(nn.Module):
    """Mean of |x(i+1, j) - x(i, j)| plus mean of |x(i, j+1) - x(i, j)|, in the units of the image.

    This is anisotropic total variation per pixel and channel. A direction with a single pixel counts as 0.

    Args:
        squared: Take twice the means of the squares instead, in squared units, as in the code of the TCFL reproduction;
            this blurs edges, which the absolute differences do not.

    Shape:
        Input (N, C, H, W); the target is ignored. Output: scalar in [0, inf), 0 for constant images.

    Source:
        Rudin, Osher and Fatemi, Nonlinear Total Variation Based Noise Removal Algorithms, Physica D 1992.
    """

    def __init__(self, squared: bool = False) -> None:
        super().__init__()
        self.squared = squared

    def forward(self, restored_NCHW: Tensor, target_NCHW: Tensor | None = None) -> Tensor:
        """Measure the roughness of a batch of images; gradients of equal neighbours are zero."""
        x = full_precision(restored_NCHW)
        steps = [step.abs() for step in (x.diff(dim=-2), x.diff(dim=-1)) if step.numel()]
        means = [2 * step.square().mean() if self.squared else step.mean() for step in steps]
        return sum(means, start=x.real.new_zeros(()))
