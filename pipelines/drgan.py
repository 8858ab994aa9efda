"""DRGAN: content and noise of OCT images taken apart, and put together crosswise (Huang et al., IEEE TMI 40(10), 2021).

From a noisy image X and an unrelated clean image Y: contents E_C, the noise code of X by E_N, clean images by G_C and
noisy ones by G_N. Cleaned X and noised Y must convince their critics; each image must come back from its own parts
(recon) and from the parts of the two exchanged images (cycle); and what was taken from X and added to Y must look like
pure noise to a third critic.
"""

from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from configs import registry
from configs.errors import ConfigError
from configs.fields import FieldSpec, Needs, Source
from configs.schema import Count, Network, PipelineConfig, Positive, Section, Weight
from losses.adversarial import Adversarial
from losses.l1 import L1
from models.blocks.padding import crop_to, pad_to_multiple
from models.drgan_clean_decoder import DrganCleanDecoder
from models.drgan_content_encoder import DrganContentEncoder
from models.drgan_noise_encoder import DrganNoiseEncoder
from models.drgan_noisy_decoder import DrganNoisyDecoder
from pipelines.base import Batch, Output, PhaseOutput, Pipeline, detached, real_channels
from pipelines.common import noise_patches
from pipelines.common.image_pool import Pools
from pipelines.common.network_passes import passes

KINDS = ("clean", "noisy", "residual_x", "residual_y")
"""The made images that critics judge: cleaned X, noised Y, and the noise in each."""
MULTIPLE = 8
"""Sides are grown to multiples of this: 4 for the two halvings, and 8 leaves the reflection padding room."""


class Weights(Section):
    """Weight of each term."""

    adversarial: Weight = 1.0
    """What the critics of clean and noisy images say to the generators."""
    cycle: Weight = 10.0
    """L1 of X and Y made from the parts of the exchanged images."""
    recon: Weight = 10.0
    """L1 of X and Y made from their own parts."""
    noise: Weight = 1.0
    """What the noise critic says of the noise taken from X and added to Y."""


class Drgan(Pipeline["Drgan.Config"]):
    """Noisy images X and unrelated clean images Y: content and noise disentangled."""

    class Config(PipelineConfig):
        """Settings of DRGAN."""

        width: Positive = 64
        """Channels of the encoders' first layer; the contents have four times as many."""
        blocks: Positive = 4
        """Residual blocks of the content encoder and of each decoder."""
        code_channels: Positive = 8
        """Length of the noise code."""
        critic: Network = {"name": "patch_discriminator", "variant": "cyclegan"}
        """Network from an image to scores, built three times."""
        gan: Literal["lsgan", "vanilla", "hinge"] = "lsgan"
        """What scores mean (losses/adversarial.py)."""
        weights: Weights = Weights()
        critic_every: Positive = 5
        """The critics learn at every fifth step."""
        pool_size: Count = 5
        """Images kept of each made kind for the critics."""
        noise_patch_px: int = Field(default=64, ge=32, multiple_of=8)
        """Side of the noise patches cut from the noisy images where the shards hold no `noise_patch`."""
        range: tuple[float, float] = (0.0, 1.0)
        """The stored units' range, mapped to [-1, 1] for the networks."""

        @model_validator(mode="after")
        def _is_a_range(self) -> "Drgan.Config":
            if self.range[0] >= self.range[1]:
                raise registry.SettingsError([f"range is (low, high) with low < high, got {list(self.range)}"])
            return self

    def __init__(self, config: Config, fields: dict[str, FieldSpec]) -> None:
        super().__init__(config, fields)
        channels = real_channels(
            fields, "noisy", "unpaired_clean", error="drgan needs real images, noisy and clean with equal channels"
        )
        if fields["noisy"].layout == "ri" and config.range[0] >= 0:
            raise ConfigError(
                f"real and imaginary parts below {config.range[0]:g} cannot be restored: set "
                "pipeline.range to [-top, top], or data.representation to magnitude"
            )
        size = {"width": config.width}
        decoder = {**size, "blocks": config.blocks}
        self.content_encoder = DrganContentEncoder(channels, **decoder)
        self.noise_encoder = DrganNoiseEncoder(channels, **size, code_channels=config.code_channels)
        self.clean_decoder = DrganCleanDecoder(channels, **decoder)
        self.noisy_decoder = DrganNoisyDecoder(channels, **decoder, code_channels=config.code_channels)
        self.critic_clean, self.critic_noisy, self.critic_noise = (
            registry.build("models", config.critic, in_channels=channels) for _ in range(3)
        )
        self.adversarial, self.distance = Adversarial(config.gan), L1()
        self.pools = Pools(KINDS, config.pool_size)
        self.phases = {
            "generator": ("content_encoder", "noise_encoder", "clean_decoder", "noisy_decoder"),
            "critic": ("critic_clean", "critic_noisy", "critic_noise"),
        }
        self.outputs = {"restored": Output("noisy", "clean")}

    @classmethod
    def needs(cls, config: Config) -> Needs:
        """A noisy image, an unrelated clean one, patches of pure noise where there are any; a clean one to measure."""
        return Needs(
            {
                "noisy": Source(),
                "unpaired_clean": Source("clean", draw="unpaired"),
                "noise_patch": Source(draw="unpaired", optional=True),
                "clean": Source(scale_of="noisy", optional=True, evaluation=True),
            }
        )

    def is_active(self, phase: str, step: int) -> bool:
        """The critics learn at every `critic_every`-th step."""
        return phase == "generator" or step % self.config.critic_every == 0

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """The generators' loss, or the critics' on the images they made."""
        x, y = (self._to_unit(batch, name) for name in ("noisy", "unpaired_clean"))
        return self._generator_loss(x, y, batch) if phase == "generator" else self._critic_loss(x, y, batch, carry)

    def restore(self, batch: Batch) -> dict[str, Tensor]:
        """The clean image of the noisy one's content."""
        x = self._to_unit(batch, "noisy")
        made = self.clean_decoder(self.content_encoder(pad_to_multiple(x, MULTIPLE)))
        low, high = self.config.range
        restored = (crop_to(made, x.shape[-2:]) + 1) / 2 * (high - low) + low
        return {"restored": restored / batch["noisy_scale"]}

    def rank_state(self) -> dict[str, Any]:
        """The image pools."""
        return {"pools": self.pools.state()}

    def load_rank_state(self, state: dict[str, Any]) -> None:
        """Take the image pools back."""
        self.pools.load(state["pools"])

    def _generator_loss(self, x: Tensor, y: Tensor, batch: Batch) -> PhaseOutput:
        """Encoders and decoders work on two images at a time: their norms look at one sample only."""
        n, size = len(x), x.shape[-2:]
        both = pad_to_multiple(torch.cat([x, y]), MULTIPLE)
        content, code = self.content_encoder(both), self.noise_encoder(both[:n])
        clear_x, recon_y = self.clean_decoder(content).chunk(2)
        recon_x, noisy_y = self.noisy_decoder(content, code.repeat(2, 1)).chunk(2)
        content = self.content_encoder(torch.cat([clear_x, noisy_y]))
        cycle_x = self.noisy_decoder([part[:n] for part in content], self.noise_encoder(noisy_y))
        cycle_y = self.clean_decoder([part[n:] for part in content])
        clear_x, noisy_y, recon_x, recon_y, cycle_x, cycle_y = (
            crop_to(image, size) for image in (clear_x, noisy_y, recon_x, recon_y, cycle_x, cycle_y)
        )
        height, width = self._patches(batch).shape[-2:]
        residuals = [noise_patches.tiles(made, height, width) for made in (x - clear_x, noisy_y - y)]
        fool = self.adversarial.fool
        terms = {
            "adversarial": fool(self.critic_clean(clear_x)) + fool(self.critic_noisy(noisy_y)),
            "cycle": self.distance(cycle_x, x) + self.distance(cycle_y, y),
            "recon": self.distance(recon_x, x) + self.distance(recon_y, y),
            "noise": 2 * fool(self.critic_noise(torch.cat(residuals))),
        }
        total = torch.stack([getattr(self.config.weights, name) * value for name, value in terms.items()]).sum()
        return PhaseOutput(total, detached(terms), {"clear_x": clear_x.detach(), "noisy_y": noisy_y.detach()})

    def _critic_loss(self, x: Tensor, y: Tensor, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """Each critic: half the sum of its real and made terms; the noise critic's is taken for X and for Y."""
        clear_x, noisy_y = carry["clear_x"], carry["noisy_y"]
        made = dict(zip(KINDS, (clear_x, noisy_y, x - clear_x, noisy_y - y), strict=True))
        fake = {kind: self.pools.exchange(kind, images) for kind, images in made.items()}
        patches = self._patches(batch)
        residuals = [noise_patches.tiles(fake[kind], *patches.shape[-2:]) for kind in KINDS[2:]]
        terms = {
            "critic_clean": self._judged(self.critic_clean, y, fake["clean"]),
            "critic_noisy": self._judged(self.critic_noisy, x, fake["noisy"]),
            "critic_noise": 2 * self._judged(self.critic_noise, patches, torch.cat(residuals)),
        }
        return PhaseOutput(torch.stack(list(terms.values())).sum(), detached(terms), {})

    def _judged(self, critic: torch.nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        if real.shape == fake.shape:
            scores_real, scores_fake = passes(critic, (real, fake))
        else:
            scores_real, scores_fake = critic(real), critic(fake)
        return (self.adversarial(scores_real, real=True) + self.adversarial(scores_fake, real=False)) / 2

    def _patches(self, batch: Batch) -> Tensor:
        """Patches of pure noise with mean zero, in the networks' units.

        The published code keeps their brightness, a difference from the residuals that the noise critic learns first.
        """
        low, high = self.config.range
        if "noise_patch" in batch:
            found, scale = batch["noise_patch"], batch["noise_patch_scale"]
        else:
            found = noise_patches.flattest(batch["noisy"], self.config.noise_patch_px)
            scale = batch["noisy_scale"]
        return noise_patches.centred(found) * scale * 2 / (high - low)

    def _to_unit(self, batch: Batch, name: str) -> Tensor:
        """A field in the networks' units: the stored range becomes [-1, 1]."""
        low, high = self.config.range
        return (batch[name] * batch[f"{name}_scale"] - low) / (high - low) * 2 - 1
