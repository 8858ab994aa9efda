"""Settings of the dual-domain method, shared by the pipeline (pipelines/dual_domain.py) and its diagnosis rules."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema

from quell.configs import registry
from quell.configs.schema import Count, Fraction, PipelineConfig, Positive, Rate, Section, Weight
from quell.configs.sizes import Width, Widths


class Weights(Section):
    """Weights of the loss terms."""

    content: Weight = 1.0
    """Distance between the two contrasts' latents, as measured by the loss `content`."""
    recon: Weight = 0.5
    """L1 between each contrast decoded from its own latent and its own noisy image."""
    cross: Weight = 1.0
    """L1 between each contrast decoded from the other's latent and its own noisy image."""
    edge: Weight = 0.0
    """L1 between the Sobel magnitudes of the cross predictions and of the noisy images."""


class AntiCollapse(Section):
    """The original framework's rule against a collapsing latent: at epoch ends, shift weight from recon to content."""

    enabled: bool = True
    """Whether the rule is applied."""
    variance_threshold: Weight = 1e-5
    """An epoch counts if the variance of the latent or of the cross predictions is below this."""
    patience: Positive = 2
    """Consecutive epochs that must count before the weights change."""
    factor: Fraction = 0.2
    """content *= 1 + factor, recon *= 1 - factor."""
    max_content: Weight = 8.0
    """Upper limit of the content weight."""
    min_recon: Weight = 5e-4
    """Lower limit of the recon weight."""


class DualDomainSettings(PipelineConfig):
    """Settings of the dual-domain method."""

    encoder_features: Widths = (64, 128, 256)
    """Channels of the encoder's levels, from full resolution down."""
    decoder_features: Widths = (256, 128, 64)
    """Channels of each decoder's levels, from the coarsest up."""
    latent_channels: Width = 256
    """Channels of the latent, at the coarsest level."""
    identity_mapping: bool = False
    """Initialise the decoders to zero and add their input: the original setup, which never learns
    (docs/dual_domain.md)."""
    weights: Weights = Weights()
    content: Annotated[
        dict[str, Any],
        BeforeValidator(registry.checker("losses", given=("channels",))),
        WithJsonSchema({"catalogue": "losses"}),
    ] = {"name": "content"}
    """The loss for the content term: content (L1) or cosine_content; or one that a collapsed encoder does not minimise:
    predicted_content, vicreg, info_nce. The last two compare all samples of a process's micro-batch."""
    ramp_steps: Count = 0
    """Steps over which the content and cross weights ramp up from 0; 0 for full weights from the start."""
    sigma_a: Weight = 0.01
    """Standard deviation of the noise added to the PD input, per component, in units of the median magnitude."""
    sigma_b: Weight = 0.01
    """The same for the PDFS input."""
    cross_domain_strategy: Literal["no_skip", "use_target_skip", "use_source_skip", "zero_skip", "mixed_skip"] = (
        "no_skip"
    )
    """Skip connections a decoder receives with the other contrast's latent."""
    mixed_skip_alpha: Fraction = 0.5
    """Weight of the target's skips in mixed_skip; the source's skips have the rest."""
    same_domain_use_skip: bool = True
    """Whether a decoder receives skip connections with its own contrast's latent."""
    anti_collapse: AntiCollapse = AntiCollapse()
    units: Literal["median", "raw"] = "median"
    """Unit of the cross and edge terms, and of the variance of the cross predictions that anti_collapse watches: of
    each image's median magnitude like the other terms; or of the stored values, as in the original program, where the
    weight of these terms depends on how large the stored numbers are (docs/dual_domain.md)."""
    raw_gain: Rate = 1.0
    """With units raw: what stored values are multiplied by first, to see what data of another magnitude does."""
    targets: Literal["noisy", "clean"] = "noisy"
    """Train against the noisy images, or (supervised control) against the clean ones."""
    restore_path: Literal["cross", "same"] = "cross"
    """The path whose images are the result; both are measured."""
