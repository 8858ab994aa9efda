"""Dual-domain Noise2Noise: one encoder and one decoder per contrast; each contrast is predicted from the other.

The design follows the Contrast2Contrast configurations; docs/dual_domain.md has measurements of what they do. All loss
terms are in the same unit: images divided by their median magnitude (`units: raw` is the original's mixture).
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from quell.configs import registry
from quell.configs.errors import DataError
from quell.configs.fields import FieldSpec, Needs, Source
from quell.losses.edge import Edge
from quell.losses.l1 import L1
from quell.losses.noise.model import FieldNoise, NoiseModel
from quell.models.contrast_decoder import ContrastDecoder
from quell.models.contrast_encoder import ContrastEncoder
from quell.pipelines.base import Batch, Output, PhaseOutput, Pipeline, detached
from quell.pipelines.common.dual_domain import diagnosis, inside, instruments
from quell.pipelines.common.dual_domain.settings import DualDomainSettings
from quell.pipelines.common.noise_calibration import NoiseLevel
from quell.pipelines.reporting.assumed_noise import AssumedNoise
from quell.pipelines.reporting.checks import CheckValue, Finding, MethodDiagnosis
from quell.pipelines.reporting.facts import RunFacts
from quell.pipelines.state.host_copy import HostCopy

TERMS = ("content", "recon", "cross", "edge")
"""The loss terms, in the order of the buffer `weights`."""


class DualDomain(Pipeline["DualDomain.Config"]):
    """Content, recon, cross and edge losses on paired PD / PDFS slices with independent noise."""

    class Config(DualDomainSettings):
        """Settings of the dual-domain method."""

    followed_loss = diagnosis.FOLLOWED_LOSS
    report_columns = diagnosis.REPORT_COLUMNS
    paired_fields = instruments.DOMAINS

    weights: Tensor
    """Current weight of each term, which the anti-collapse rule changes."""
    counted: Tensor
    """Consecutive epochs so far that the anti-collapse rule counts as collapsed."""

    def __init__(self, config: Config, fields: dict[str, FieldSpec]) -> None:
        super().__init__(config, fields)
        pd, pdfs = fields["pd"], fields["pdfs"]
        if pd != pdfs:
            raise DataError(
                f"pd and pdfs must be images of the same kind, got {pd} and {pdfs}: rebuild the shards alike"
            )
        self.encoder = ContrastEncoder(
            in_channels=pd.channels,
            features=config.encoder_features,
            latent_channels=config.latent_channels,
            complex=pd.is_complex,
        )
        self.decoder_a, self.decoder_b = (
            ContrastDecoder(
                out_channels=pd.channels,
                features=config.decoder_features,
                latent_channels=config.latent_channels,
                skip_channels=config.encoder_features[:-1],
                complex=pd.is_complex,
                identity_mapping=config.identity_mapping,
            )
            for _ in range(2)
        )
        modulus = pd.layout != "real"
        self.distance, self.edge = L1(modulus=modulus), Edge(modulus=modulus)
        self.content = registry.build("losses", config.content, channels=self.encoder.latent_width)
        self.calibrates = True
        self.noise_level = NoiseLevel(self, "estimate_each", instruments.DOMAINS, "auto")
        """Of the targets' own noise, for the diagnostics; the losses do not read it."""
        self.ramp = 1.0
        self.register_buffer("weights", torch.tensor([getattr(config.weights, term) for term in TERMS]))
        self._host_weights: HostCopy[list[float]] = self.host_copy("weights", read=Tensor.tolist, absent=[])
        self.register_buffer("counted", torch.zeros((), dtype=torch.long))
        learned = ("content",) if config.weights.content and list(self.content.parameters()) else ()
        self.phases = {"denoiser": ("encoder", "decoder_a", "decoder_b", *learned)}
        self.outputs = {
            f"{field}_{path}": Output(field, f"{field}_clean", primary=path == config.restore_path)
            for path in ("cross", "same")
            for field in ("pd", "pdfs")
        }

    @classmethod
    def needs(cls, config: Config) -> Needs:
        """Both noisy contrasts and random numbers for each; clean images and second copies, if any, for evaluation."""
        only_measured = config.targets == "noisy"
        clean = {
            f"{f}_clean": Source(scale_of=f, optional=only_measured, evaluation=only_measured) for f in ("pd", "pdfs")
        }
        second = {f"{f}_second": Source(scale_of=f, optional=True, evaluation=True) for f in ("pd", "pdfs")}
        return Needs({"pd": Source(), "pdfs": Source(), **clean, **second}, {"pd_normal": "pd", "pdfs_normal": "pdfs"})

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Examine the noise of whole training images: the noise floor of correlated noise needs its spectrum."""
        self.noise_level.calibrate(batches, required=False)

    def noise_model(self) -> NoiseModel | None:
        """The noise found in the training images."""
        return self.noise_level.found

    def assumed_noise(self, field: str, found: FieldNoise) -> AssumedNoise | None:
        """Whatever it is: the networks learn one contrast from the other, and the noise floor follows the images."""
        return AssumedNoise(found.kind)

    def warnings(self) -> list[str]:
        """Whether the noise of a contrast says something of the other's, or is of a kind that the method cannot do."""
        return self.noise_level.warnings(self.config.name)

    def migrate_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Old checkpoints know no shape of the noise."""
        return self.noise_level.migrate_state(tensors)

    def on_step_start(self, step: int, epoch: float) -> None:
        """Ramp up the content and cross weights."""
        self.ramp = min(1.0, (step + 1) / self.config.ramp_steps) if self.config.ramp_steps else 1.0

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """The weighted sum of the content, recon, cross and edge terms."""
        pd, pdfs = batch["pd"], batch["pdfs"]
        noisy_pd = pd + self.config.sigma_a * batch["pd_normal"]
        noisy_pdfs = pdfs + self.config.sigma_b * batch["pdfs_normal"]
        z_a, z_b, images = self._decode(noisy_pd, noisy_pdfs)
        is_supervised = self.config.targets == "clean"
        target_a, target_b = (batch["pd_clean"], batch["pdfs_clean"]) if is_supervised else (pd, pdfs)
        cross_a = self._in_units(images["pd_cross"], batch, "pd")
        cross_b = self._in_units(images["pdfs_cross"], batch, "pdfs")
        crossed_a, crossed_b = self._in_units(target_a, batch, "pd"), self._in_units(target_b, batch, "pdfs")
        terms = {
            "content": self.content(z_a, z_b),
            "recon": self.distance(images["pd_same"], target_a) + self.distance(images["pdfs_same"], target_b),
            "cross": self.distance(cross_a, crossed_a) + self.distance(cross_b, crossed_b),
            "edge": self.edge(cross_a, crossed_a) + self.edge(cross_b, crossed_b),
        }
        # A term of weight 0 is left out, since 0 * inf would be NaN. DDP needs a gradient for every parameter, so
        # 0 * recon gives the decoders one even if all their terms are left out.
        ramps = {"content": self.ramp, "cross": self.ramp}
        weights = zip(TERMS, self._host_weights.value, strict=True)
        total = sum((w * ramps.get(t, 1.0) * terms[t] for t, w in weights if w), 0 * terms["recon"])
        magnitude = torch.cat([cross_a, cross_b]).detach().abs()
        scalars = {**terms, "variance_latent": z_a.detach().var(), "variance_cross": magnitude.var()}
        scalars |= {f"weight_{term}": weight for term, weight in zip(TERMS, self.weights, strict=True)}
        return PhaseOutput(total, detached(scalars), {})

    def _in_units(self, images: Tensor, batch: Batch, field: str) -> Tensor:
        """Images, or their targets, in the unit of the cross and edge terms."""
        if self.config.units == "median":
            return images
        return images * (self.config.raw_gain * batch[f"{field}_scale"])

    def restore(self, batch: Batch) -> dict[str, Tensor]:
        """Both contrasts by both paths; no noise is added."""
        return self._decode(batch["pd"], batch["pdfs"])[2]

    def on_epoch_end(self, means: dict[str, float]) -> list[str]:
        """Apply the anti-collapse rule: after `patience` epochs of too low a variance, shift weight to content."""
        rule = self.config.anti_collapse
        is_low = min(means["variance_latent"], means["variance_cross"]) < rule.variance_threshold
        if not (rule.enabled and is_low):
            self.counted.zero_()
            return []
        self.counted += 1
        if int(self.counted) < rule.patience:
            return []
        self.counted.zero_()
        content, recon, *_ = self._host_weights.value
        # whatever the limits, content is never lowered and recon never raised; a weight of 0 stays 0
        self.weights[0] = max(content, min(content * (1 + rule.factor), rule.max_content))
        self.weights[1] = min(recon, max(recon * (1 - rule.factor), rule.min_recon))
        changes = f"content weight {content:g} -> {self.weights[0]:g}, recon {recon:g} -> {self.weights[1]:g}"
        return [f"anti-collapse: {changes}"]

    def diagnostics(self, batch: Batch, restored: dict[str, Tensor]) -> dict[str, Tensor]:
        """Cross loss against its noise floor and the best constant, spread of the latents, and noise leakage."""
        z = self.encoder(torch.cat([batch["pd"], batch["pdfs"]]))[0]
        z_a, z_b = z.chunk(2)
        return {
            **instruments.levels(batch, restored, self.distance, self.fields["pd"].layout, self._noise_levels(batch)),
            **instruments.latents(z_a, z_b),
            **instruments.leakage(batch, restored),
        }

    def _noise_levels(self, batch: Batch) -> dict[str, Tensor] | None:
        """Noise level of each image, (N,) by field, if the noise is correlated or varies; None for white noise."""
        if self.noise_level.is_white:
            return None
        parts = {
            key: torch.view_as_real(value).movedim(-1, 2).flatten(1, 2) if _is_complex(value) else value
            for key, value in batch.items()
        }
        levels = self.noise_level.of_batch(parts)
        return {name: level.square().flatten(1).mean(1).sqrt() for name, level in levels.items()}

    def describe_batch(self, batch: Batch) -> dict[str, CheckValue]:
        """Latents, skips, and the images and errors of both paths."""
        z_a, z_b, images = self._decode(batch["pd"], batch["pdfs"])
        skips = len(self.config.encoder_features) - 1
        latents = {"pd": z_a, "pdfs": z_b}
        return inside.describe(self.config, batch, latents, images, skips=skips, distance=self.distance)

    def findings(self, metrics: dict[str, float]) -> list[Finding]:
        """Judge the metrics for a leak, a collapse and a flat cross loss."""
        return instruments.findings(metrics)

    @classmethod
    def diagnose(cls, facts: RunFacts) -> MethodDiagnosis:
        """Apply the rules and criteria of the dual-domain documents."""
        return diagnosis.diagnose(facts)

    def _decode(self, pd: Tensor, pdfs: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The latents of both contrasts and the four decoded images.

        Both contrasts are encoded in one pass, and each decoder decodes the same and the cross path in one pass. This
        equals separate passes, since every norm is per sample.
        """
        n = pd.shape[0]  # not len: an export keeps the number of images open
        z, skips = self.encoder(torch.cat([pd, pdfs]))
        z_a, z_b = z[:n], z[n:]
        skips_a, skips_b = [s[:n] for s in skips], [s[n:] for s in skips]
        pd_same, pd_cross = self._both(self.decoder_a, z_a, z_b, pd, skips_a, skips_b)
        pdfs_same, pdfs_cross = self._both(self.decoder_b, z_b, z_a, pdfs, skips_b, skips_a)
        images = {"pd_cross": pd_cross, "pdfs_cross": pdfs_cross, "pd_same": pd_same, "pdfs_same": pdfs_same}
        return z_a, z_b, images

    def _both(
        self,
        decoder: ContrastDecoder,
        z_own: Tensor,
        z_other: Tensor,
        own: Tensor,
        own_skips: list[Tensor],
        other_skips: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """One decoder's images from its own contrast's latent and from the other's."""
        same = own_skips if self.config.same_domain_use_skip else None
        cross = self._cross_skips(own_skips, other_skips)
        skips = None
        if same is not None or cross is not None:
            zeros = [torch.zeros_like(s) for s in own_skips]
            skips = [torch.cat(pair) for pair in zip(same or zeros, cross or zeros, strict=True)]
        identity = None
        if self.config.identity_mapping:
            adds_own = self.config.cross_domain_strategy == "use_target_skip"
            zero = torch.zeros_like(own)
            identity = torch.cat([own if same is not None else zero, own if adds_own else zero])
        both = decoder(torch.cat([z_own, z_other]), skips, identity, size=own.shape[-2:])
        n = own.shape[0]
        return both[:n], both[n:]

    def _cross_skips(self, target: list[Tensor], source: list[Tensor]) -> list[Tensor] | None:
        """The skips a decoder receives with the other contrast's latent; to a decoder None equals zeros."""
        match self.config.cross_domain_strategy:
            case "use_target_skip":
                return target
            case "use_source_skip":
                return source
            case "mixed_skip":
                alpha = self.config.mixed_skip_alpha
                return [alpha * t + (1 - alpha) * s for t, s in zip(target, source, strict=True)]
            case "zero_skip":
                return [torch.zeros_like(t) for t in target]
            case _:
                return None


def _is_complex(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_complex()
