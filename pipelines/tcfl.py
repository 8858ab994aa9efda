"""TCFL: a generator predicts the noise of an image, trained on unrelated noisy and clean images.

With noise N = G(I), there are three ways to a clean estimate (N2P, P2P and C2P in the paper; A and B noisy, C clean):

    C_A1 = A - N_A              C_B1 = B - N_B
    C_A2 = P - G(P), P = C_A1 + N_B    C_B2 = Q - G(Q), Q = C_B1 + N_A
    C_C1 = R - G(R), R = C + N_A       C_C2 = S - G(S), S = C + N_B

They must agree: |C_A1 - C_A2| + |C_B1 - C_B2| (identity) and |C_C1 - C| + |C_C2 - C| (clean). Any constant G satisfies
both, so a critic learns to tell the six estimates from clean images, or the two noise maps are driven apart
(separation). Source: Geng et al., IEEE TMI 41(11), 2022.
"""

from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor

from quell.configs import registry
from quell.configs.errors import ConfigError
from quell.configs.fields import FieldSpec, Needs, Source
from quell.configs.schema import Count, Network, PipelineConfig, Positive, Rate, Section, Weight
from quell.losses.adversarial import Adversarial
from quell.losses.gradient_penalty import GradientPenalty
from quell.losses.l1 import L1
from quell.losses.separation import Separation
from quell.losses.total_variation import TotalVariation
from quell.pipelines.base import Batch, Output, PhaseOutput, Pipeline, State, detached, real_channels
from quell.pipelines.common import noise_maps
from quell.pipelines.common.image_pool import Pools
from quell.pipelines.common.network_passes import clip_weights, forward_groups
from quell.pipelines.reporting.checks import Finding

ESTIMATES = ("a1", "b1", "a2", "b2", "c1", "c2")
"""The six clean estimates, in the order in which they are concatenated."""


class TcflWeights(Section):
    """Weights of the loss terms."""

    identity: Weight = 6.0
    """|C_A1 - C_A2| + |C_B1 - C_B2|."""
    clean: Weight = 6.0
    """|C_C1 - C| + |C_C2 - C|."""
    adversarial: Weight = 1.0
    """Adversarial loss of the generator, summed over the six estimates."""
    critic_fake: Weight | None = None
    """In the critic's loss, weight of each of the six estimates relative to the clean image; null is 1/6, balanced."""
    total_variation: Weight = 0.0
    """Total variation, summed over the six estimates."""
    separation: Weight = 0.0
    """Reward for noise maps that differ."""


class Tcfl(Pipeline["Tcfl.Config"]):
    """Noise learned from noisy images A and B and an unrelated clean image C, by crossed estimates and a critic."""

    report_columns = noise_maps.REPORT_COLUMNS

    class Config(PipelineConfig):
        """Settings of TCFL."""

        generator: Network = {"name": "dncnn", "depth": 10, "activation": "leaky_relu", "residual": False}
        """Network from a noisy image to its noise."""
        critic: Network = {"name": "patch_discriminator", "variant": "official"}
        """Network from an image to scores."""
        gan: Literal["none", "lsgan", "vanilla", "wgan", "wgan_gp", "hinge"] = "lsgan"
        """Form of the adversarial loss (losses/adversarial.py); none trains without a critic."""
        critic_clip: Rate | None = None
        """wgan: clip the critic's weights to [-critic_clip, critic_clip] after each of its steps."""
        gradient_penalty: Weight = 10.0
        """wgan_gp: weight of the gradient penalty."""
        critic_updates: Positive = 1
        """Critic updates per generator update; every one of them is a step with a batch of its own."""
        weights: TcflWeights = TcflWeights()
        total_variation: Literal["absolute", "squared"] = "absolute"
        """Form of the total variation (losses/total_variation.py); the reproduction uses squared."""
        separation: Literal["none", "linear", "exp"] = "none"
        """Form of the reward for noise maps that differ (losses/separation.py)."""
        separation_bound: Rate = 1.0
        """Upper bound of the separation reward, in the units of the images."""
        pool_size: Count = 50
        """Size of the image pool for each of the six estimates; 0 shows the critic only the current ones."""
        batch_passes: bool = True
        """Two generator passes on concatenated images instead of six. Batch norms then see the statistics of the
        concatenation; false gives them separate statistics for each pass, as in the published code."""
        clip: tuple[float, float] | None = (0.0, 1.0)
        """Range to which restored images are clipped, in stored units; null does not clip."""

        @model_validator(mode="after")
        def _is_consistent(self) -> "Tcfl.Config":
            problems = []
            if self.generator.get("residual"):
                problems.append(
                    "generator.residual must be false: the network predicts the noise, and the method subtracts it"
                )
            if (self.gan == "wgan") != (self.critic_clip is not None):
                problems.append(
                    "gan wgan and critic_clip belong together: set both (e.g. critic_clip 0.001) or neither"
                )
            if self.gan in ("wgan", "wgan_gp") and self.weights.critic_fake is not None:
                problems.append(
                    f"weights.critic_fake must be null with gan {self.gan}: an unbalanced Wasserstein "
                    "critic gains without bound by shifting all its scores"
                )
            if (self.separation == "none") != (self.weights.separation == 0):
                problems.append("separation needs a form and weights.separation > 0: set both or neither")
            if self.gan == "none" and self.separation == "none":
                problems.append(
                    "with gan none and separation none any constant noise map is a perfect solution: choose "
                    "separation exp or linear, or a gan"
                )
            if self.clip is not None and self.clip[0] >= self.clip[1]:
                problems.append(f"clip must be [low, high] with low < high, got {list(self.clip)}")
            if problems:
                raise registry.SettingsError(problems)
            return self

    def __init__(self, config: Config, fields: dict[str, FieldSpec]) -> None:
        super().__init__(config, fields)
        channels = real_channels(
            fields,
            "noisy",
            "noisy_other",
            "unpaired_clean",
            error="tcfl adds the noise of one image to another: its fields must be real, with equal channels",
        )
        if fields["noisy"].layout == "ri" and config.clip is not None and config.clip[0] >= 0:
            raise ConfigError(
                f"real and imaginary parts would be clipped to {list(config.clip)}, which loses negative values: set "
                "pipeline.clip=null, or data.representation to magnitude"
            )
        sizes = {"in_channels": channels, "out_channels": channels}
        self.generator = registry.build("models", config.generator, **sizes)
        self.distance = L1()
        self.total_variation = TotalVariation(squared=config.total_variation == "squared")
        form = "exp" if config.separation == "none" else config.separation
        self.separation = Separation(form, config.separation_bound)
        self.phases = {"generator": ("generator",)}
        if config.gan != "none":
            self.critic = registry.build("models", config.critic, in_channels=channels)
            self.adversarial, self.penalty = Adversarial(config.gan), GradientPenalty()
            self.phases["critic"] = ("critic",)
        self.pools = Pools(ESTIMATES, config.pool_size)
        self.outputs = {"restored": Output("noisy", "clean")}

    @classmethod
    def needs(cls, config: Config) -> Needs:
        """Two unrelated noisy images and an unrelated clean one; the clean image of the first for evaluation only."""
        fields = {
            "noisy": Source(),
            "noisy_other": Source("noisy", draw="unpaired"),
            "unpaired_clean": Source("clean", draw="unpaired"),
            "clean": Source(scale_of="noisy", optional=True, evaluation=True),
        }
        normals = {"penalty_normal": "noisy"} if config.gan == "wgan_gp" else {}
        return Needs(fields, normals, sizes=dict.fromkeys(normals, (1, 1, len(ESTIMATES))))

    def is_active(self, phase: str, step: int) -> bool:
        """The generator is updated at one of `critic_updates` steps."""
        return phase == "critic" or self.config.gan == "none" or step % self.config.critic_updates == 0

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """The generator's loss, or the critic's loss on the six estimates."""
        return self._generator_loss(batch) if phase == "generator" else self._critic_loss(batch, carry)

    def after_step(self, phase: str) -> None:
        """Clip the weights of a wgan's critic."""
        if phase == "critic" and self.config.critic_clip is not None:
            clip_weights(self.critic, self.config.critic_clip)

    def restore(self, batch: Batch) -> dict[str, Tensor]:
        """The noisy image minus its predicted noise, clipped."""
        restored = batch["noisy"] - self.generator(batch["noisy"])
        if self.config.clip is not None:
            low, high = (bound / batch["noisy_scale"] for bound in self.config.clip)
            restored = restored.clamp(low, high)
        return {"restored": restored}

    def diagnostics(self, batch: Batch, restored: dict[str, Tensor]) -> dict[str, Tensor]:
        """How much the noise map depends on the image; zero for a constant generator."""
        return noise_maps.variation(self.generator, batch["noisy"])

    def findings(self, metrics: dict[str, float]) -> list[Finding]:
        """Whether the generator is constant."""
        return noise_maps.findings(metrics)

    def rank_state(self) -> State:
        """The image pools."""
        return {"pools": self.pools.state()}

    def load_rank_state(self, state: State) -> None:
        """Restore the image pools."""
        self.pools.load(state["pools"])

    def _estimates(self, batch: Batch) -> tuple[list[Tensor], Tensor, Tensor]:
        """The six clean estimates and the noise maps of A and B, in two or six passes of the generator."""
        a, b, c = batch["noisy"], batch["noisy_other"], batch["unpaired_clean"]
        together = self.config.batch_passes
        noise_a, noise_b = forward_groups(self.generator, (a, b), together=together)
        first = [a - noise_a, b - noise_b]
        crossed = [first[0] + noise_b, first[1] + noise_a, c + noise_a, c + noise_b]
        second = [
            x - n for x, n in zip(crossed, forward_groups(self.generator, crossed, together=together), strict=True)
        ]
        return first + second, noise_a, noise_b

    def _generator_loss(self, batch: Batch) -> PhaseOutput:
        estimates, noise_a, noise_b = self._estimates(batch)
        a1, b1, a2, b2, c1, c2 = estimates
        clean, weights = batch["unpaired_clean"], self.config.weights
        together = torch.cat(estimates)
        terms = {
            "identity": self.distance(a2, a1) + self.distance(b2, b1),
            "clean": self.distance(c1, clean) + self.distance(c2, clean),
        }
        if self.config.gan != "none":
            terms["adversarial"] = len(ESTIMATES) * self.adversarial.fool(self.critic(together))
        if weights.total_variation:
            terms["total_variation"] = len(ESTIMATES) * self.total_variation(together)
        if weights.separation:
            terms["separation"] = self.separation(noise_a, noise_b)
        total = torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()
        scalars = {**terms, "noise_distance": self.distance(noise_a.detach(), noise_b.detach())}
        return PhaseOutput(total, detached(scalars), {"estimates": together.detach()})

    def _critic_loss(self, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """C against the generator phase's estimates, computed here if that phase did not run at this step."""
        clean = batch["unpaired_clean"]
        if "estimates" in carry:
            estimates = carry["estimates"]
        else:
            with torch.no_grad():
                estimates = torch.cat(self._estimates(batch)[0])
        kinds = zip(ESTIMATES, estimates.chunk(len(ESTIMATES)), strict=True)
        fake = torch.cat([self.pools.exchange(kind, images, self.draws) for kind, images in kinds])
        scores = self.critic(torch.cat([clean, fake]))
        scores_clean, scores_fake = scores[: len(clean)], scores[len(clean) :]
        weight = 1 / len(ESTIMATES) if self.config.weights.critic_fake is None else self.config.weights.critic_fake
        fake_term = self.adversarial(scores_fake, real=False)
        total = self.adversarial(scores_clean, real=True) + weight * len(ESTIMATES) * fake_term
        scalars = {"score_clean": scores_clean.mean(), "score_estimates": scores_fake.mean()}
        if self.config.gan == "wgan_gp":
            scalars["penalty"] = self.penalty(self.critic, clean.repeat(6, 1, 1, 1), fake, _interpolation(batch))
            total = total + self.config.gradient_penalty * scalars["penalty"]
        return PhaseOutput(total, detached(scalars), {})


def _interpolation(batch: Batch) -> Tensor:
    """Uniform numbers for the gradient penalty's interpolation, (6 N,), from the batch's random numbers."""
    normal = batch["penalty_normal"].flatten(1)[:, : len(ESTIMATES)]
    return torch.special.ndtr(normal).T.flatten()
