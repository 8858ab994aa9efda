"""Symptoms of a dual-domain run that several rules ask about, and what to use instead of a run that shows them."""

from quell.pipelines.common.dual_domain.instruments import COLLAPSE, FLAT
from quell.pipelines.common.dual_domain.settings import DualDomainSettings
from quell.pipelines.reporting.checks import Recommendation, format_value
from quell.pipelines.reporting.facts import MIN_FALL, RunFacts

RECOMMENDED = "configs/cross_guided.yaml"
"""The recipe that works where dual-domain recipes collapse, leak or stay flat."""

BEYOND_REPAIR = ("collapse", "leak", "leak_target", "leak_source", "flat")
"""Findings that no change of the loss weights has fixed for good."""

COLLAPSING_CONTENT = 0.05
"""From this content weight on, the encoder collapsed in every measurement; up to 0.01 it did not."""


def settings_of(facts: RunFacts) -> DualDomainSettings:
    """The run's `pipeline` section."""
    settings = facts.config.pipeline
    assert isinstance(settings, DualDomainSettings), "these rules are for dual-domain runs"
    return settings


def is_collapsed(facts: RunFacts) -> bool:
    """Whether the latent is known to no longer depend on the image."""
    spread = facts.metric("latent_spread")
    return spread is not None and spread < COLLAPSE


def is_flat(facts: RunFacts) -> bool | None:
    """Whether the cross path has learned no more than a constant image; None if unknown.

    Where that was not measured, whether the cross loss has stopped falling.
    """
    share, fall = facts.metric("cross_over_constant"), facts.fall("cross")
    if share is not None:
        return share > FLAT
    return None if fall is None else fall <= MIN_FALL


def has_noisy_targets(facts: RunFacts) -> bool:
    """Whether the run trains against noisy images, so that its cross loss has a noise floor."""
    return settings_of(facts).targets == "noisy"


def cross_gain(facts: RunFacts) -> float | None:
    """PSNR of the cross path over the noisy images in dB, mean over both contrasts."""
    return facts.gain(outputs=("pd_cross", "pdfs_cross"))


def same_gain(facts: RunFacts) -> float | None:
    """PSNR of the same path over the noisy images in dB, mean over both contrasts."""
    return facts.gain(outputs=("pd_same", "pdfs_same"))


def alternative(facts: RunFacts) -> str:
    """Advice that rests on measurements, for rules whose own advice does not help."""
    if is_collapsed(facts):
        return f"Measured: the encoder has collapsed; set weights.content to 0.01 or less, or use {RECOMMENDED}"
    return f"Measured: see collapse, leak and the gradients of each network; {RECOMMENDED} works"


def recommendation(facts: RunFacts) -> Recommendation | None:
    """The recipe to use instead, with the evidence against this run; None if it shows none of the symptoms."""
    evidence = ", ".join(
        f"{finding.name} {format_value(finding.value)} ({finding.bound})"
        for finding in facts.findings
        if finding.name in BEYOND_REPAIR and not finding.ok
    )
    if not evidence:
        return None
    return Recommendation(
        RECOMMENDED,
        f"Recommended instead: {RECOMMENDED}, which restores both contrasts from noisy pairs without these problems "
        f"(docs/dual_domain.md). Evidence here: {evidence}.",
    )
