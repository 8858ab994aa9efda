"""Dual-domain Noise2Noise: one encoder, one decoder per contrast, each contrast predicted from the other's noise.

The design follows the user's Contrast2Contrast configurations; what their recipes do when they are measured is in
docs/dual_domain.md. All terms are in one unit: images divided by their median magnitude.
"""

import torch
from torch import Tensor

from configs import registry
from configs.errors import DataError
from configs.fields import FieldSpec, Needs, Source
from losses.edge import Edge
from losses.l1 import L1
from models.contrast_decoder import ContrastDecoder
from models.contrast_encoder import ContrastEncoder
from pipelines.base import Batch, Output, PhaseOutput, Pipeline, detached
from pipelines.common.dual_domain import diagnosis, instruments
from pipelines.common.dual_domain.settings import DualDomainSettings
from pipelines.common.host_copy import HostCopy
from pipelines.reporting.checks import Finding, MethodDiagnosis
from pipelines.reporting.facts import RunFacts

TERMS = ("content", "recon", "cross", "edge")


class DualDomain(Pipeline["DualDomain.Config"]):
    """Paired PD / PDFS slices with independent noise: content, recon, cross and edge losses."""

    class Config(DualDomainSettings):
        """Settings of the dual-domain method."""

    followed_loss = diagnosis.FOLLOWED_LOSS
    report_columns = diagnosis.REPORT_COLUMNS
    paired_fields = instruments.DOMAINS

    weights: Tensor
    counted: Tensor

    def __init__(self, config: Config, fields: dict[str, FieldSpec]) -> None:
        super().__init__(config, fields)
        pd, pdfs = fields["pd"], fields["pdfs"]
        if pd != pdfs:
            raise DataError(f"pd and pdfs must be of one kind, but pd is {pd} and pdfs is {pdfs}: rebuild the shards")
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
        self.risen = 1.0
        self.register_buffer("weights", torch.tensor([getattr(config.weights, term) for term in TERMS]))
        self._known = HostCopy()
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
        """Both noisy contrasts, their clean images where known, and one noise draw each."""
        extra = config.targets == "noisy"
        clean = {f"{f}_clean": Source(scale_of=f, optional=extra, evaluation=extra) for f in ("pd", "pdfs")}
        second = {f"{f}_second": Source(scale_of=f, optional=True, evaluation=True) for f in ("pd", "pdfs")}
        return Needs({"pd": Source(), "pdfs": Source(), **clean, **second}, {"pd_normal": "pd", "pdfs_normal": "pdfs"})

    def on_step_start(self, step: int, epoch: float) -> None:
        """How far the content and the cross weight have risen."""
        self.risen = min(1.0, (step + 1) / self.config.ramp_steps) if self.config.ramp_steps else 1.0

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """Weighted sum of content, recon, cross and edge on one batch."""
        pd, pdfs = batch["pd"], batch["pdfs"]
        noisy_pd = pd + self.config.sigma_a * batch["pd_normal"]
        noisy_pdfs = pdfs + self.config.sigma_b * batch["pdfs_normal"]
        z_a, z_b, images = self._decode(noisy_pd, noisy_pdfs)
        clean = self.config.targets == "clean"
        target_a, target_b = (batch["pd_clean"], batch["pdfs_clean"]) if clean else (pd, pdfs)
        terms = {
            "content": self.content(z_a, z_b),
            "recon": self.distance(images["pd_same"], target_a) + self.distance(images["pdfs_same"], target_b),
            "cross": self.distance(images["pd_cross"], target_a) + self.distance(images["pdfs_cross"], target_b),
            "edge": self.edge(images["pd_cross"], target_a) + self.edge(images["pdfs_cross"], target_b),
        }
        # a term of weight zero stays out, 0 * inf is no number; 0 * recon gives the decoders a gradient, as DDP wants
        rising = {"content": self.risen, "cross": self.risen}
        weights = zip(TERMS, self._known.of(self.weights), strict=True)
        total = sum((w * rising.get(t, 1.0) * terms[t] for t, w in weights if w), 0 * terms["recon"])
        spread = torch.cat([images["pd_cross"], images["pdfs_cross"]]).detach().abs()
        scalars = {**terms, "variance_latent": z_a.detach().var(), "variance_cross": spread.var()}
        scalars |= {f"weight_{term}": weight for term, weight in zip(TERMS, self.weights, strict=True)}
        return PhaseOutput(total, detached(scalars), {})

    def restore(self, batch: Batch) -> dict[str, Tensor]:
        """Both contrasts along both paths, (N, C, H, W) in the units of the input; no noise is added."""
        return self._decode(batch["pd"], batch["pdfs"])[2]

    def on_epoch_end(self, means: dict[str, float]) -> list[str]:
        """The anti-collapse rule: after `patience` epochs in a row of too small a variance, shift weight to content."""
        rule = self.config.anti_collapse
        low = min(means["variance_latent"], means["variance_cross"]) < rule.variance_threshold
        if not (rule.enabled and low):
            self.counted.zero_()
            return []
        self.counted += 1
        if int(self.counted) < rule.patience:
            return []
        self.counted.zero_()
        content, recon, *_ = self._known.of(self.weights)
        # content is never lowered and recon never raised, whatever the bounds; zero stays zero
        self.weights[0] = max(content, min(content * (1 + rule.factor), rule.max_content))
        self.weights[1] = min(recon, max(recon * (1 - rule.factor), rule.min_recon))
        now = f"content weight {content:g} -> {self.weights[0]:g}, recon {recon:g} -> {self.weights[1]:g}"
        return [f"anti-collapse: {now}"]

    def diagnostics(self, batch: Batch, restored: dict[str, Tensor]) -> dict[str, Tensor]:
        """Noise floor, constant-predictor level, latent collapse and noise leakage of a validation batch."""
        z = self.encoder(torch.cat([batch["pd"], batch["pdfs"]]))[0]
        z_a, z_b = z.chunk(2)
        return {
            **instruments.levels(batch, restored, self.distance, self.fields["pd"].layout),
            **instruments.latents(z_a, z_b),
            **instruments.leakage(batch, restored),
        }

    def findings(self, metrics: dict[str, float]) -> list[Finding]:
        """Judge the metrics for a leak, a collapse and a flat cross loss."""
        return instruments.findings(metrics)

    @classmethod
    def diagnose(cls, facts: RunFacts) -> MethodDiagnosis:
        """Apply the rules and criteria of the dual-domain documents."""
        return diagnosis.diagnose(facts)

    def _decode(self, pd: Tensor, pdfs: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Latents of both contrasts and the four decoded images.

        Both contrasts go through the encoder together, and each decoder decodes same and cross together: every norm is
        per sample, so this equals separate passes.
        """
        n = len(pd)
        z, skips = self.encoder(torch.cat([pd, pdfs]))
        z_a, z_b = z.chunk(2)
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
        """One decoder's image from its own latent and from the other contrast's."""
        same = own_skips if self.config.same_domain_use_skip else None
        cross = self._cross_skips(own_skips, other_skips)
        skips = None
        if same is not None or cross is not None:
            zeros = [torch.zeros_like(s) for s in own_skips]
            skips = [torch.cat(pair) for pair in zip(same or zeros, cross or zeros, strict=True)]
        identity = None
        if self.config.identity_mapping:
            with_own = self.config.cross_domain_strategy == "use_target_skip"
            nothing = torch.zeros_like(own)
            identity = torch.cat([own if same is not None else nothing, own if with_own else nothing])
        both = decoder(torch.cat([z_own, z_other]), skips, identity, size=own.shape[-2:])
        return both[: len(own)], both[len(own) :]

    def _cross_skips(self, target: list[Tensor], source: list[Tensor]) -> list[Tensor] | None:
        """The skips a decoder gets with the other contrast's latent; None and zeros are the same to a decoder."""
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
