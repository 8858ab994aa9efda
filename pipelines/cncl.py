"""CNCL: one network predicts the content, another the noise, each corrects the other (Geng et al., TMI 41(2), 2022).

From a noisy image x (normalised per image): content c1 = C(x), noise n = E(x), and a clean image fused from c1 and
x - n by a 1x1 convolution. L1 on both, and a critic that sees clean, noise and noisy image together.
"""

from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor

from configs import registry
from configs.fields import FieldSpec, Needs, Source
from configs.schema import Network, PipelineConfig, Section, Weight
from losses.adversarial import Adversarial
from losses.l1 import L1
from models.cncl_fusion import CnclFusion
from pipelines.base import Batch, Output, PhaseOutput, Pipeline, detached, real_channels
from pipelines.common.network_passes import passes

CONSTANT = 1e-6
"""Standard deviation over mean up to which an image is constant but for rounding: it is not divided."""


class Weights(Section):
    """Weight of each term; 50 and 50 is the 100 of the published code's mean over both images."""

    content: Weight = 50.0
    """L1 of the fused clean image."""
    noise: Weight = 50.0
    """L1 of the noise."""
    adversarial: Weight = 1.0
    """What the critic says to the generators; 0 trains without a critic."""


class Cncl(Pipeline["Cncl.Config"]):
    """Paired noisy and clean images: content and noise, learned by two networks and judged together."""

    class Config(PipelineConfig):
        """Settings of CNCL."""

        content: Network = {"name": "unet"}
        """Network from a noisy image to its content."""
        noise: Network = {"name": "unet"}
        """Network from a noisy image to its noise."""
        critic: Network = {"name": "patch_discriminator", "variant": "official"}
        """Network from clean, noise and noisy image, stacked, to scores."""
        gan: Literal["lsgan", "vanilla", "hinge"] = "lsgan"
        """What scores mean (losses/adversarial.py)."""
        weights: Weights = Weights()
        normalisation: Literal["std", "variance", "none"] = "std"
        """Networks see (x - mean) / std of the noisy image, or / variance as the published code has it, or x itself."""
        batch_passes: bool = True
        """The critic judges real and made images in one pass; false gives a batch norm in it separate statistics."""

        @model_validator(mode="after")
        def _goes_together(self) -> "Cncl.Config":
            if self.noise.get("residual"):
                raise registry.SettingsError(["noise.residual must be false: that network gives the noise itself"])
            return self

    def __init__(self, config: Config, fields: dict[str, FieldSpec]) -> None:
        super().__init__(config, fields)
        channels = real_channels(
            fields, "noisy", "clean", error="cncl needs real images, noisy and clean with equal channels"
        )
        self.content = registry.build("models", config.content, in_channels=channels, out_channels=channels)
        self.noise = registry.build("models", config.noise, in_channels=channels, out_channels=channels)
        self.fusion = CnclFusion(channels)
        self.distance = L1()
        self.phases = {"generator": ("content", "noise", "fusion")}
        if config.weights.adversarial:
            self.critic = registry.build("models", config.critic, in_channels=3 * channels)
            self.adversarial = Adversarial(config.gan)
            self.phases["critic"] = ("critic",)
        self.outputs = {"restored": Output("noisy", "clean")}

    @classmethod
    def needs(cls, config: Config) -> Needs:
        """Paired noisy and clean images in one unit."""
        return Needs({"noisy": Source(), "clean": Source(scale_of="noisy")})

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """L1 of content and noise and the critic's word, or the critic's own loss on the same images."""
        mean, spread = self._mean_and_spread(batch["noisy"])
        x, clean = ((batch[name] - mean) / spread for name in ("noisy", "clean"))
        real = torch.cat([clean, x - clean, x], dim=1)
        return self._generator_loss(x, real) if phase == "generator" else self._critic_loss(real, carry["triple"])

    def restore(self, batch: Batch) -> dict[str, Tensor]:
        """The fused clean image."""
        known = batch if "noisy_spread" in batch else self.image_statistics(batch)
        mean, spread = known["noisy_mean"], known["noisy_spread"]
        return {"restored": self._made((batch["noisy"] - mean) / spread)[0] * spread + mean}

    def image_statistics(self, batch: Batch) -> dict[str, Tensor]:
        """Mean and spread of the noisy image."""
        return dict(zip(("noisy_mean", "noisy_spread"), self._mean_and_spread(batch["noisy"]), strict=True))

    def _generator_loss(self, x: Tensor, real: Tensor) -> PhaseOutput:
        fused, noise = self._made(x)
        clean, true_noise, _ = real.chunk(3, dim=1)
        triple = torch.cat([fused, noise, x], dim=1)
        terms = {"content": self.distance(fused, clean), "noise": self.distance(noise, true_noise)}
        weights = self.config.weights
        total = weights.content * terms["content"] + weights.noise * terms["noise"]
        if weights.adversarial:
            terms["adversarial"] = self.adversarial.fool(self.critic(triple))
            total = total + weights.adversarial * terms["adversarial"]
        return PhaseOutput(total, detached(terms), {"triple": triple.detach()})

    def _critic_loss(self, real: Tensor, made: Tensor) -> PhaseOutput:
        score_real, score_made = passes(self.critic, (real, made), together=self.config.batch_passes)
        total = (self.adversarial(score_real, real=True) + self.adversarial(score_made, real=False)) / 2
        return PhaseOutput(total, detached({"score_clean": score_real.mean(), "score_made": score_made.mean()}), {})

    def _made(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Fused clean image and noise, in the networks' units."""
        noise = self.noise(x)
        return self.fusion(self.content(x), x - noise), noise

    def _mean_and_spread(self, noisy: Tensor) -> tuple[Tensor, Tensor]:
        """What is taken from an image and what it is divided by, (N, 1, 1, 1) each, for the networks' units."""
        if self.config.normalisation == "none":
            return noisy.new_zeros(len(noisy), 1, 1, 1), noisy.new_ones(len(noisy), 1, 1, 1)
        spread, mean = torch.std_mean(noisy, dim=(1, 2, 3), keepdim=True, correction=0)
        constant = spread <= CONSTANT * mean.abs()
        if self.config.normalisation == "variance":
            spread = spread.square()
        return mean, spread.masked_fill(constant, 1.0)
