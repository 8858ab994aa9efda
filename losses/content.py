"""Distance between the latents of two images that should have the same content."""

from torch import Tensor, nn

from quell.losses.common.pixel_differences import comparable_pair


class Content(nn.Module):
    """Mean of |z_a - z_b| over latents, in the latents' own arbitrary units; gradients flow into both.

    Nothing fixes these units: an encoder that ignores its input has content 0 as well, and weights of 0.05 and more
    have led encoders to just that. A small value alone means nothing; compare it with the distance between latents of
    different samples.

    Shape:
        Inputs of equal shape. Output: scalar in [0, inf).
    """

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """Compare the latents of two images."""
        z_a, z_b = comparable_pair(z_a, z_b)
        return (z_a - z_b).abs().mean()
