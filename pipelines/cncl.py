"""CNCL: one network predicts the content and another the noise, and each corrects the other.

From a noisy image x (normalised per image): content c1 = C(x), noise n = E(x), and a clean image fused from c1 and
x - n by a 1x1 convolution. Trained with L1 on both, and against a critic that sees the clean, noise and noisy image
stacked. Source: Geng et al., IEEE TMI 41(2), 2022.
"""

from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor

from quell.configs import registry
from quell.configs.fields import FieldSpec, Needs, Source
from quell.configs.schema import Network, PipelineConfig, Section, Weight
from quell.losses.adversarial import Adversarial
from quell.losses.l1 import L1
from quell.models.cncl_fusion import CnclFusion
from quell.pipelines.base import Batch, Output, PhaseOutput, Pipeline, detached, real_channels
from quell.pipelines.common.network_passes import forward_groups

CONSTANT = 1e-6
"""Images whose standard deviation over mean is below this are constant up to rounding: they are not divided by it."""


class CnclWeights(Section):
    """Weights of the loss terms; 50 + 50 equals the published code's 100 times the mean over both images."""

    content: Weight = 50.0
    """L1 of the fused clean image."""
    noise: Weight = 50.0
    """L1 of the noise."""
    adversarial: Weight = 1.0
    """Adversarial loss of the generators; 0 trains without a critic."""


class Cncl(Pipeline["Cncl.Config"]):
    """Paired noisy and clean images; two networks learn content and noise, and one critic judges both together."""

    class Config(PipelineConfig):
        """Settings of CNCL."""

        content: Network = {"name": "unet"}
        """Network from a noisy image to its content."""
        noise: Network = {"name": "unet"}
        """Network from a noisy image to its noise."""
        critic: Network = {"name": "patch_discriminator", "variant": "official"}
        """Network from the stacked clean, noise and noisy images to scores."""
        gan: Literal["lsgan", "vanilla", "hinge"] = "lsgan"
        """Form of the adversarial loss (losses/adversarial.py)."""
        weights: CnclWeights = CnclWeights()
        normalisation: Literal["std", "variance", "none"] = "std"
        """Units of the networks: (x - mean) / std of the noisy image, (x - mean) / variance as in the published code,
        or x itself."""
        batch_passes: bool = True
        """The critic sees real and generated images in one pass; false gives its batch norms separate statistics."""

        @model_validator(mode="after")
        def _noise_network_is_direct(self) -> "Cncl.Config":
            if self.noise.get("residual"):
                raise registry.SettingsError(["noise.residual must be false: that network predicts the noise itself"])
            return self

    def __init__(self, config: Config, fields: dict[str, FieldSpec]) -> None:
        super().__init__(config, fields)
        channels = real_channels(
            fields, "noisy", "clean", error="cncl needs real noisy and clean images with equal channels"
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
        """Paired noisy and clean images of one scale."""
        return Needs({"noisy": Source(), "clean": Source(scale_of="noisy")})

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """L1 of content and noise plus the adversarial loss, or the critic's loss on the same images."""
        mean, divisor = self._mean_and_divisor(batch["noisy"])
        x, clean = ((batch[name] - mean) / divisor for name in ("noisy", "clean"))
        real = torch.cat([clean, x - clean, x], dim=1)
        return self._generator_loss(x, real) if phase == "generator" else self._critic_loss(real, carry["triple"])

    def restore(self, batch: Batch) -> dict[str, Tensor]:
        """The fused clean image."""
        statistics = batch if "noisy_divisor" in batch else self.image_statistics(batch)
        mean, divisor = statistics["noisy_mean"], statistics["noisy_divisor"]
        return {"restored": self._generated((batch["noisy"] - mean) / divisor)[0] * divisor + mean}

    def image_statistics(self, batch: Batch) -> dict[str, Tensor]:
        """What each noisy image is normalised by."""
        return dict(zip(("noisy_mean", "noisy_divisor"), self._mean_and_divisor(batch["noisy"]), strict=True))

    def _generator_loss(self, x: Tensor, real: Tensor) -> PhaseOutput:
        fused, noise = self._generated(x)
        clean, true_noise, _ = real.chunk(3, dim=1)
        triple = torch.cat([fused, noise, x], dim=1)
        terms = {"content": self.distance(fused, clean), "noise": self.distance(noise, true_noise)}
        weights = self.config.weights
        total = weights.content * terms["content"] + weights.noise * terms["noise"]
        if weights.adversarial:
            terms["adversarial"] = self.adversarial.fool(self.critic(triple))
            total = total + weights.adversarial * terms["adversarial"]
        return PhaseOutput(total, detached(terms), {"triple": triple.detach()})

    def _critic_loss(self, real: Tensor, generated: Tensor) -> PhaseOutput:
        score_real, score_generated = forward_groups(self.critic, (real, generated), together=self.config.batch_passes)
        total = (self.adversarial(score_real, real=True) + self.adversarial(score_generated, real=False)) / 2
        scalars = {"score_clean": score_real.mean(), "score_made": score_generated.mean()}
        return PhaseOutput(total, detached(scalars), {})

    def _generated(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The fused clean image and the noise, in the networks' units."""
        noise = self.noise(x)
        return self.fusion(self.content(x), x - noise), noise

    def _mean_and_divisor(self, noisy: Tensor) -> tuple[Tensor, Tensor]:
        """What is subtracted from each image and what it is then divided by, (N, 1, 1, 1) each."""
        if self.config.normalisation == "none":
            return noisy.new_zeros(len(noisy), 1, 1, 1), noisy.new_ones(len(noisy), 1, 1, 1)
        std, mean = torch.std_mean(noisy, dim=(1, 2, 3), keepdim=True, correction=0)
        is_constant = std <= CONSTANT * mean.abs()
        divisor = std.square() if self.config.normalisation == "variance" else std
        return mean, divisor.masked_fill(is_constant, 1.0)
