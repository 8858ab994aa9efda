"""DRGAN: content and noise of OCT images are disentangled and recombined crosswise.

From a noisy image X and an unrelated clean image Y: the content of both by encoder E_C, the noise code of X by encoder
E_N, clean images by decoder G_C and noisy ones by decoder G_N. The denoised X and the noised Y must fool their critics;
each image must be reconstructed from its own content and noise (recon) and from those of the two generated images
(cycle); and what was removed from X and added to Y must look like pure noise to a third critic. Source: Huang et al.,
IEEE TMI 40(10), 2021.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from quell.configs import registry
from quell.configs.errors import ConfigError
from quell.configs.fields import FieldSpec, Needs, Source
from quell.configs.schema import Count, Network, PipelineConfig, Positive, Section, Weight
from quell.configs.sizes import Depth, Width
from quell.losses.adversarial import Adversarial
from quell.losses.l1 import L1
from quell.models.blocks.padding import crop_to, pad_to_multiple
from quell.models.drgan_clean_decoder import DrganCleanDecoder
from quell.models.drgan_content_encoder import DrganContentEncoder
from quell.models.drgan_noise_encoder import DrganNoiseEncoder
from quell.models.drgan_noisy_decoder import DrganNoisyDecoder
from quell.pipelines.base import Batch, Output, PhaseOutput, Pipeline, State, detached, real_channels
from quell.pipelines.common import noise_patches
from quell.pipelines.common.image_pool import Pools
from quell.pipelines.common.network_passes import forward_groups

KINDS = ("clean", "noisy", "residual_x", "residual_y")
"""The generated images that critics judge: denoised X, noised Y, and the noise in each."""
MULTIPLE = 8
"""Sides are padded to multiples of this: 4 for the two downsamplings, 8 to leave room for the reflection padding."""


class DrganWeights(Section):
    """Weights of the loss terms."""

    adversarial: Weight = 1.0
    """Adversarial loss on the denoised X and the noised Y."""
    cycle: Weight = 10.0
    """L1 of X and Y reconstructed from the generated images' content and noise."""
    recon: Weight = 10.0
    """L1 of X and Y reconstructed from their own content and noise."""
    noise: Weight = 1.0
    """Adversarial loss on the noise removed from X and added to Y."""


class Drgan(Pipeline["Drgan.Config"]):
    """Disentangles content and noise, given noisy images X and unrelated clean images Y."""

    class Config(PipelineConfig):
        """Settings of DRGAN."""

        width: Width = 64
        """Channels of the encoders' first layer; the content has four times as many."""
        blocks: Depth = 4
        """Residual blocks of the content encoder and of each decoder."""
        code_channels: Width = 8
        """Length of the noise code."""
        critic: Network = {"name": "patch_discriminator", "variant": "cyclegan"}
        """Network from an image to scores; one each for clean images, noisy images and noise."""
        gan: Literal["lsgan", "vanilla", "hinge"] = "lsgan"
        """Form of the adversarial loss (losses/adversarial.py)."""
        weights: DrganWeights = DrganWeights()
        critic_every: Positive = 5
        """Interval of the critics' updates, in steps."""
        pool_size: Count = 5
        """Size of the image pool for each kind of generated image; 0 uses none."""
        noise_patch_px: int = Field(default=64, ge=32, multiple_of=8)
        """Side of the noise patches that are cut from the noisy images if the shards hold no field `noise_patch`."""
        centre_patches: bool = True
        """Subtract their mean from the noise patches. The published code does not: it maps them to [-1, 1] like images,
        and the noise critic learns that difference from the zero-centred residuals first."""
        range: tuple[float, float] = (0.0, 1.0)
        """Range of the images in stored units, which is mapped to [-1, 1] for the networks."""

        @model_validator(mode="after")
        def _range_is_ordered(self) -> "Drgan.Config":
            if self.range[0] >= self.range[1]:
                raise registry.SettingsError([f"range must be [low, high] with low < high, got {list(self.range)}"])
            return self

    def __init__(self, config: Config, fields: dict[str, FieldSpec]) -> None:
        super().__init__(config, fields)
        channels = real_channels(
            fields, "noisy", "unpaired_clean", error="drgan needs real noisy and clean images with equal channels"
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
        """A noisy and an unrelated clean image, optionally patches of noise; its clean image for evaluation only."""
        return Needs(
            {
                "noisy": Source(),
                "unpaired_clean": Source("clean", draw="unpaired"),
                "noise_patch": Source(draw="unpaired", optional=True),
                "clean": Source(scale_of="noisy", optional=True, evaluation=True),
            }
        )

    def is_active(self, phase: str, step: int) -> bool:
        """The critics are updated at every `critic_every`-th step."""
        return phase == "generator" or step % self.config.critic_every == 0

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """The generators' loss, or the critics' loss on the generated images."""
        x, y = (self._to_unit(batch, name) for name in ("noisy", "unpaired_clean"))
        return self._generator_loss(x, y, batch) if phase == "generator" else self._critic_loss(x, y, batch, carry)

    def restore(self, batch: Batch) -> dict[str, Tensor]:
        """The clean image decoded from the noisy image's content."""
        x = self._to_unit(batch, "noisy")
        decoded = self.clean_decoder(self.content_encoder(pad_to_multiple(x, MULTIPLE)))
        low, high = self.config.range
        restored = (crop_to(decoded, x.shape[-2:]) + 1) / 2 * (high - low) + low
        return {"restored": restored / batch["noisy_scale"]}

    def rank_state(self) -> State:
        """The image pools."""
        return {"pools": self.pools.state()}

    def load_rank_state(self, state: State) -> None:
        """Restore the image pools."""
        self.pools.load(state["pools"])

    def _generator_loss(self, x: Tensor, y: Tensor, batch: Batch) -> PhaseOutput:
        """Two images go through each encoder and decoder in one pass: their norms look at one sample at a time."""
        n, size = len(x), x.shape[-2:]
        both = pad_to_multiple(torch.cat([x, y]), MULTIPLE)
        content, code = self.content_encoder(both), self.noise_encoder(both[:n])
        clean_x, recon_y = self.clean_decoder(content).chunk(2)
        recon_x, noisy_y = self.noisy_decoder(content, code.repeat(2, 1)).chunk(2)
        content = self.content_encoder(torch.cat([clean_x, noisy_y]))
        cycle_x = self.noisy_decoder([scale[:n] for scale in content], self.noise_encoder(noisy_y))
        cycle_y = self.clean_decoder([scale[n:] for scale in content])
        clean_x, noisy_y, recon_x, recon_y, cycle_x, cycle_y = (
            crop_to(image, size) for image in (clean_x, noisy_y, recon_x, recon_y, cycle_x, cycle_y)
        )
        height, width = self._patches(batch).shape[-2:]
        residuals = [noise_patches.tiles(residual, height, width) for residual in (x - clean_x, noisy_y - y)]
        fool = self.adversarial.fool
        terms = {
            "adversarial": fool(self.critic_clean(clean_x)) + fool(self.critic_noisy(noisy_y)),
            "cycle": self.distance(cycle_x, x) + self.distance(cycle_y, y),
            "recon": self.distance(recon_x, x) + self.distance(recon_y, y),
            "noise": 2 * fool(self.critic_noise(torch.cat(residuals))),
        }
        total = torch.stack([getattr(self.config.weights, name) * value for name, value in terms.items()]).sum()
        return PhaseOutput(total, detached(terms), {"clean_x": clean_x.detach(), "noisy_y": noisy_y.detach()})

    def _critic_loss(self, x: Tensor, y: Tensor, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """Half the sum of each critic's losses on real and generated images; counted twice for noise, of X and of Y."""
        clean_x, noisy_y = carry["clean_x"], carry["noisy_y"]
        generated = dict(zip(KINDS, (clean_x, noisy_y, x - clean_x, noisy_y - y), strict=True))
        fake = {kind: self.pools.exchange(kind, images, self.draws) for kind, images in generated.items()}
        patches = self._patches(batch)
        residuals = [noise_patches.tiles(fake[kind], *patches.shape[-2:]) for kind in KINDS[2:]]
        terms = {
            "critic_clean": self._critic_term(self.critic_clean, y, fake["clean"]),
            "critic_noisy": self._critic_term(self.critic_noisy, x, fake["noisy"]),
            "critic_noise": 2 * self._critic_term(self.critic_noise, patches, torch.cat(residuals)),
        }
        return PhaseOutput(torch.stack(list(terms.values())).sum(), detached(terms), {})

    def _critic_term(self, critic: torch.nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        if real.shape == fake.shape:
            scores_real, scores_fake = forward_groups(critic, (real, fake))
        else:
            scores_real, scores_fake = critic(real), critic(fake)
        return (self.adversarial(scores_real, real=True) + self.adversarial(scores_fake, real=False)) / 2

    def _patches(self, batch: Batch) -> Tensor:
        """Patches of pure noise in the networks' units, with mean zero (`centre_patches`) or as images."""
        low, high = self.config.range
        if "noise_patch" in batch:
            patches, scale = batch["noise_patch"], batch["noise_patch_scale"]
        else:
            patches = noise_patches.flattest(batch["noisy"], self.config.noise_patch_px)
            scale = batch["noisy_scale"]
        if not self.config.centre_patches:
            return (patches * scale - low) / (high - low) * 2 - 1
        return noise_patches.centred(patches) * scale * 2 / (high - low)

    def _to_unit(self, batch: Batch, name: str) -> Tensor:
        """A field in the networks' units: the stored range is mapped to [-1, 1]."""
        low, high = self.config.range
        return (batch[name] * batch[f"{name}_scale"] - low) / (high - low) * 2 - 1
