"""Noise2Noise: a network learns to predict one noisy image from another with the same content."""

import torch
from pydantic import model_validator
from torch import Tensor

from quell.configs.fields import Needs, Source
from quell.pipelines.base import Batch, PhaseOutput
from quell.pipelines.common.weighted_losses import Losses, WeightedConfig, WeightedPipeline


class Noise2Noise(WeightedPipeline["Noise2Noise.Config"]):
    """Any network and any weighted set of losses, from a noisy image to another one with the same content.

    If the noise of the two is independent with zero mean, the squared error is minimised by the mean of the clean image
    given the noisy one; the absolute error by the median, which is the same for symmetric noise. The loss cannot fall
    below the noise power of the target. Source: Lehtinen et al., ICML 2018.
    """

    class Config(WeightedConfig):
        """Settings of Noise2Noise."""

        losses: Losses = {"l2": {"weight": 1.0}}
        """Losses with weights; the theory is exact for the squared error."""
        others: tuple[str, ...] = ("noisy_other",)
        """Fields with other noisy images of the same content; of several, each sample uses a random one per step."""
        symmetric: bool = False
        """Also predict the noisy image from the other one: twice the training signal per step, at twice the cost."""

        @model_validator(mode="after")
        def _names_other_fields(self) -> "Noise2Noise.Config":
            if not self.others or "noisy" in self.others or len(set(self.others)) < len(self.others):
                raise ValueError("others must name one or more fields, each once, and not noisy itself")
            return self

    @classmethod
    def needs(cls, config: Config) -> Needs:
        """A noisy image and others with the same content; the clean image for evaluation only."""
        targets = {name: Source(scale_of="noisy") for name in config.others}
        clean = Source(scale_of="noisy", optional=True, evaluation=True)
        normals = {"choice": "noisy"} if len(targets) > 1 else {}
        return Needs({"noisy": Source(), **targets, "clean": clean}, normals, sizes=dict.fromkeys(normals, (1, 1, 1)))

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """The weighted losses between the restored image and another noisy one."""
        noisy, target = batch["noisy"], self._target(batch)
        if self.config.symmetric:
            noisy, target = torch.cat([noisy, target]), torch.cat([target, noisy])
        total, scalars = self.compare(self.network(noisy), target)
        return PhaseOutput(total, scalars, {})

    def _target(self, batch: Batch) -> Tensor:
        """One of each sample's other noisy images, chosen uniformly by a random number from the batch."""
        images = [batch[name] for name in self.config.others]
        if len(images) == 1:
            return images[0]
        uniform_N = torch.special.ndtr(batch["choice"].flatten(1)[:, 0])
        chosen_N = (uniform_N * len(images)).long().clamp(max=len(images) - 1)
        return torch.stack(images)[chosen_N, torch.arange(len(chosen_N), device=chosen_N.device)]
