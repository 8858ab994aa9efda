"""Distance between the latents of two images that should hold the same content."""

from torch import Tensor, nn

from losses.common.pixel_differences import checked_pair


class Content(nn.Module):
    """Mean of |z_a - z_b| over latents, in the latents' own arbitrary unit; gradient flows into both.

    Nothing fixes that unit: an encoder that ignores its input has content 0 too. Weights of 0.05 and more made encoders
    do just that, so a small value alone says nothing; compare with the distance between latents of different samples.
    """

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """The distance of two latents of one shape, a scalar."""
        z_a, z_b = checked_pair(z_a, z_b)
        return (z_a - z_b).abs().mean()
