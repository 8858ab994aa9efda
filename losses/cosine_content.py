"""One minus the cosine of two latents: content without a scale that could shrink."""

from torch import Tensor, nn
from torch.nn import functional

from losses.common.pixel_differences import checked_pair


class CosineContent(nn.Module):
    """Mean over positions of 1 - cos(z_a, z_b) of the latents' channel vectors, in [0, 2]; gradient flows into both.

    An encoder can no longer lower it by shrinking its latents, but one that ignores its input still has content 0.
    """

    def forward(self, z_a_NCHW: Tensor, z_b_NCHW: Tensor) -> Tensor:
        """The distance of two latents of one shape, a scalar."""
        z_a, z_b = checked_pair(z_a_NCHW, z_b_NCHW)
        return (1 - functional.cosine_similarity(z_a, z_b, dim=1)).mean()
