"""Content by prediction: each latent is predicted from the other, which is held still."""

from torch import Tensor, nn
from torch.nn import functional

from losses.common.pixel_differences import checked_pair


class PredictedContent(nn.Module):
    """Mean of 1 - cos(p(z_a), stop(z_b)) and 1 - cos(p(z_b), stop(z_a)) over positions, in [0, 2].

    The predictor p (two 1x1 convolutions with a ReLU, learned with the encoder) and the stopped gradient are what keeps
    encoders from collapsing without negatives (Chen and He, Exploring Simple Siamese Representation Learning, CVPR
    2021). `channels` are the latents'.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.predictor = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, channels, 1))

    def forward(self, z_a_NCHW: Tensor, z_b_NCHW: Tensor) -> Tensor:
        """The distance of two latents of one shape, a scalar."""
        return (self._towards(z_a_NCHW, z_b_NCHW) + self._towards(z_b_NCHW, z_a_NCHW)) / 2

    def _towards(self, moving: Tensor, still: Tensor) -> Tensor:
        predicted, target = checked_pair(self.predictor(moving), still.detach())
        return (1 - functional.cosine_similarity(predicted, target, dim=1)).mean()
