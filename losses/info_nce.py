"""Contrastive content: the latent of a slice must be nearer to its other contrast than to other slices."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from quell.configs.errors import ConfigError
from quell.configs.sizes import Above
from quell.losses.common.pixel_differences import comparable_pair


class InfoNce(nn.Module):
    """Cross-entropy, in nats, of finding a latent's other contrast among the N slices of the batch.

    Latents are flattened and compared by their cosine divided by `temperature`; both directions are averaged. The loss
    is log N for an encoder that ignores its input, and near 0 for one that distinguishes slices but not contrasts.
    Negatives are the other samples on the same rank, so the loss depends on the batch size; for one sample it is 0.

    Args:
        temperature: Positive; the smaller, the more the most similar slices count.

    Shape:
        Inputs (N, C, H, W) of equal shape. Output: scalar in [0, inf).

    Raises:
        ConfigError: `temperature` is not positive.

    Source:
        van den Oord et al., Representation Learning with Contrastive Predictive Coding, arXiv 1807.03748.
    """

    def __init__(self, temperature: Above = 0.1) -> None:
        super().__init__()
        if temperature <= 0:
            raise ConfigError(f"info_nce: temperature must be positive, got {temperature:g}")
        self.temperature = temperature

    def forward(self, z_a_NCHW: Tensor, z_b_NCHW: Tensor) -> Tensor:
        """Compare the latents of two contrasts; sample n of both is the same slice."""
        z_a, z_b = (functional.normalize(z.flatten(1), dim=1) for z in comparable_pair(z_a_NCHW, z_b_NCHW))
        with torch.autocast(z_a.device.type, enabled=False):  # half precision would round similar cosines to the same
            similarity = z_a @ z_b.T / self.temperature
        labels = torch.arange(len(similarity), device=similarity.device)
        return (functional.cross_entropy(similarity, labels) + functional.cross_entropy(similarity.T, labels)) / 2
