"""Neighbor2Neighbor: a network learns to predict one half of a noisy image from the neighbouring pixels."""

from typing import ClassVar

import torch
from torch import Tensor

from quell.configs.fields import FieldSpec
from quell.configs.schema import Count, Weight
from quell.pipelines.base import Batch, PhaseOutput, detached
from quell.pipelines.common.self_supervised import subsampling
from quell.pipelines.common.self_supervised.base import (
    SelfSupervisedConfig,
    SelfSupervisedPipeline,
    correlation_warnings,
)


class Neighbor2Neighbor(SelfSupervisedPipeline["Neighbor2Neighbor.Config"]):
    """Noise2Noise between two sub-images that share no pixel, for noise that is independent between pixels.

    From every cell of 2 x 2 pixels, two neighbours are chosen at random: g1(y) and g2(y), half as large as the noisy
    image y. The network f learns g2(y) from g1(y). Because the two do not show quite the same, a regularisation
    compares their difference with the one that restoring the whole image leaves:

        |f(g1 y) - g2 y|^2 + gamma |f(g1 y) - g2 y - (g1 f(y) - g2 f(y))|^2

    without a gradient through f(y); gamma grows linearly from 0. Noise that is correlated between neighbouring pixels
    is learned as if it were structure. Source: Huang et al., CVPR 2021.
    """

    class Config(SelfSupervisedConfig):
        """Settings of Neighbor2Neighbor."""

        regularisation: Weight = 2.0
        """Weight gamma at the end of its ramp; the source uses 1 to 16. 0 leaves the regularisation out."""
        ramp_steps: Count = 0
        """Steps over which gamma grows from 0, the length of the run in the source; 0 applies it fully at once."""

    normals: ClassVar[dict[str, str]] = {"neighbours": "noisy"}

    def __init__(self, config: Config, fields: dict[str, FieldSpec]) -> None:
        super().__init__(config, fields)
        self.gamma = config.regularisation

    def warnings(self) -> list[str]:
        """Whether the noise of the training images is correlated between pixels."""
        return correlation_warnings(self.found, "neighbor2neighbor")

    def on_step_start(self, step: int, epoch: float) -> None:
        """Ramp up the regularisation."""
        ramp = min(1.0, (step + 1) / self.config.ramp_steps) if self.config.ramp_steps else 1.0
        self.gamma = ramp * self.config.regularisation

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """The squared error to the other sub-image, plus the weighted regularisation."""
        noisy = subsampling.even(batch["noisy"])
        first, second = self._chosen(batch["neighbours"])
        difference = self.network(subsampling.sub_image(noisy, first)) - subsampling.sub_image(noisy, second)
        prediction = difference.square().mean()
        scalars = {"l2": prediction}
        loss = prediction
        if self.gamma:
            with torch.no_grad():
                whole = self.network(noisy)
            expected = subsampling.sub_image(whole, first) - subsampling.sub_image(whole, second)
            regularisation = (difference - expected).square().mean()
            loss = prediction + self.gamma * regularisation
            scalars["regularisation"] = regularisation
        return PhaseOutput(loss, detached(scalars), {})

    @staticmethod
    def _chosen(normal_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """The two pixels of every cell, from the random number of its first pixel."""
        return subsampling.choose_neighbours(torch.special.ndtr(subsampling.even(normal_NCHW)[:, 0, ::2, ::2].float()))
