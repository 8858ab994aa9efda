"""One minus the cosine of two latents: a content loss that shrinking the latents cannot lower."""

from torch import Tensor, nn
from torch.nn import functional

from quell.losses.common.pixel_differences import comparable_pair


class CosineContent(nn.Module):
    """Mean over positions of 1 - cos(z_a, z_b) of the latents' channel vectors; gradients flow into both.

    Unlike `content` it does not depend on the latents' scale, but it is also 0 for an encoder that ignores its input.

    Shape:
        Inputs (N, C, H, W) of equal shape. Output: scalar in [0, 2].
    """

    def forward(self, z_a_NCHW: Tensor, z_b_NCHW: Tensor) -> Tensor:
        """Compare the latents of two images."""
        z_a, z_b = comparable_pair(z_a_NCHW, z_b_NCHW)
        return (1 - functional.cosine_similarity(z_a, z_b, dim=1)).mean()
