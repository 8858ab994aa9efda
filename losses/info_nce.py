"""Contrastive content: the latent of a slice must be nearer to its other contrast than to other slices."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from configs.errors import ConfigError
from losses.common.pixel_differences import checked_pair


class InfoNce(nn.Module):
    """Cross-entropy of picking, among the N slices of the batch, the one whose other contrast a latent is; nats.

    Latents are flattened and compared by their cosine over `temperature`; both directions are averaged. log N for an
    encoder that ignores its input, near 0 for one that tells slices apart and contrasts not. Batches of one process
    only; one sample has nothing to be told from and gives 0. Source: van den Oord et al., arXiv 1807.03748.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        if temperature <= 0:
            raise ConfigError(f"info_nce: temperature must be positive, got {temperature:g}")
        self.temperature = temperature

    def forward(self, z_a_NCHW: Tensor, z_b_NCHW: Tensor) -> Tensor:
        """The loss of two latents of one shape, a scalar."""
        z_a, z_b = (functional.normalize(z.flatten(1), dim=1) for z in checked_pair(z_a_NCHW, z_b_NCHW))
        with torch.autocast(z_a.device.type, enabled=False):  # cosines that differ little would be rounded to the same
            alike = z_a @ z_b.T / self.temperature
        right = torch.arange(len(alike), device=alike.device)
        return (functional.cross_entropy(alike, right) + functional.cross_entropy(alike.T, right)) / 2
