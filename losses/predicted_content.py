"""Content by prediction: each latent is predicted from the other, which receives no gradient."""

from torch import Tensor, nn
from torch.nn import functional

from quell.configs.sizes import Width
from quell.losses.common.pixel_differences import comparable_pair


class PredictedContent(nn.Module):
    """Mean over positions and both directions of 1 - cos(p(z_a), stop_gradient(z_b)).

    The predictor p is two 1x1 convolutions with a ReLU, trained together with the encoder. Predictor and stopped
    gradient are what keeps the encoder from collapsing although there are no negatives.

    Args:
        channels: Channels of the latents.

    Shape:
        Inputs (N, channels, H, W) of equal shape. Output: scalar in [0, 2].

    Source:
        Chen and He, Exploring Simple Siamese Representation Learning (SimSiam), CVPR 2021.
    """

    def __init__(self, channels: Width) -> None:
        super().__init__()
        self.predictor = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, channels, 1))

    def forward(self, z_a_NCHW: Tensor, z_b_NCHW: Tensor) -> Tensor:
        """Compare the latents of two images."""
        return (self._prediction_error(z_a_NCHW, z_b_NCHW) + self._prediction_error(z_b_NCHW, z_a_NCHW)) / 2

    def _prediction_error(self, source: Tensor, target: Tensor) -> Tensor:
        """1 - cos(p(source), target), with gradients into the source and the predictor only."""
        predicted, target = comparable_pair(self.predictor(source), target.detach())
        return (1 - functional.cosine_similarity(predicted, target, dim=1)).mean()
