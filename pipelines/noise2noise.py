"""Noise2Noise: a network learns to predict one noisy image from another of the same content."""

import torch
from pydantic import model_validator
from torch import Tensor

from configs.fields import Needs, Source
from pipelines.base import Batch, PhaseOutput
from pipelines.common.weighted_losses import Losses, WeightedConfig, WeightedPipeline


class Noise2Noise(WeightedPipeline["Noise2Noise.Config"]):
    """Any network, any weighted set of losses; the target is another noisy image of the same content.

    With independent noise of zero mean the squared error has the clean image as its minimiser; the absolute error finds
    the median, which is the same for symmetric noise. The loss cannot fall below what the target's own noise adds.
    Source: Lehtinen et al., ICML 2018.
    """

    class Config(WeightedConfig):
        """Settings of Noise2Noise."""

        losses: Losses = {"l2": {"weight": 1.0}}
        """Losses with weights; the squared error is the one the theory is exact for."""
        others: tuple[str, ...] = ("noisy_other",)
        """Fields that hold other noisy images; with several, each sample takes one at random at every step."""
        symmetric: bool = False
        """Also predict the noisy image from the other one: twice the learning, and twice the time, of a step."""

        @model_validator(mode="after")
        def _has_another(self) -> "Noise2Noise.Config":
            if not self.others or "noisy" in self.others or len(set(self.others)) < len(self.others):
                raise ValueError("others must name one or more fields, each once, and not noisy itself")
            return self

    @classmethod
    def needs(cls, config: Config) -> Needs:
        """A noisy image, the others of the same content, and the clean one only to measure."""
        others = {name: Source(scale_of="noisy") for name in config.others}
        clean = Source(scale_of="noisy", optional=True, evaluation=True)
        return Needs({"noisy": Source(), **others, "clean": clean}, {"choice": "noisy"} if len(others) > 1 else {})

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """Weighted losses between the restored image and another noisy one."""
        noisy, other = batch["noisy"], self._other(batch)
        if self.config.symmetric:
            noisy, other = torch.cat([noisy, other]), torch.cat([other, noisy])
        total, parts = self.compare(self.network(noisy), other)
        return PhaseOutput(total, parts, {})

    def _other(self, batch: Batch) -> Tensor:
        """One of the other noisy images of each sample, drawn evenly by the batch's own random number."""
        images = [batch[name] for name in self.config.others]
        if len(images) == 1:
            return images[0]
        uniform_N = torch.special.ndtr(batch["choice"].flatten(1)[:, 0])
        chosen_N = (uniform_N * len(images)).long().clamp(max=len(images) - 1)
        return torch.stack(images)[chosen_N, torch.arange(len(chosen_N), device=chosen_N.device)]
