"""The diagnostic rules of the dual-domain documents, as checks of measured values.

Losses are in the method's unit: images divided by their median magnitude, summed over both contrasts. The rules are
numbered as in the documents; rules 8 (out of memory) and 9 and 10 (the decision tree) are elsewhere.
"""

import statistics
from collections.abc import Iterable
from typing import NamedTuple

from quell.pipelines.common.dual_domain.decision_tree import decision_tree
from quell.pipelines.common.dual_domain.instruments import LEAK_MARGIN
from quell.pipelines.common.dual_domain.symptoms import (
    COLLAPSING_CONTENT,
    alternative,
    is_collapsed,
    is_flat,
    settings_of,
)
from quell.pipelines.reporting.checks import Check, CheckValue, check
from quell.pipelines.reporting.documents import NOISE_LEAKAGE, QUICK_REFERENCE, SOLUTION_SUMMARY
from quell.pipelines.reporting.facts import MAX_OSCILLATION, MIN_LOGS_FOR_OSCILLATION, RunFacts

GROUP = "Rules of the documents"

SHARP = 0.5
"""Gradient energy relative to the clean image's below which an image counts as blurry."""
PAIRED = 0.05
"""By how much the edge correlation of a slice's two contrasts must exceed that of unrelated slices."""
DOCUMENTED_SIGMA = 0.01


def rule_checks(facts: RunFacts) -> list[Check]:
    """The decision tree, then the rules in the order of the documents."""
    return [
        *decision_tree(facts),
        *flat_cross_loss(facts),
        *blurry(facts),
        *unstable(facts),
        target_skip(facts),
        all_losses_large(facts),
        still_failing(facts),
        added_noise(facts),
        identity_mapping(facts),
    ]


class Condition(NamedTuple):
    """What a document requires for the cross loss to fall."""

    name: str
    value: CheckValue
    threshold: str
    is_met: bool | None
    advice: str
    unknown: str = ""


def flat_cross_loss(facts: RunFacts) -> list[Check]:
    """Rule 1: what must hold for the cross loss to fall."""
    observed = {None: "", True: " (the cross loss is flat here)", False: " (but the cross loss is not flat)"}
    return [
        check(
            f"cross flat? {condition.name}",
            condition.value,
            condition.threshold,
            condition.is_met,
            source=NOISE_LEAKAGE,
            group=GROUP,
            problem=condition.advice + observed[is_flat(facts)],
            ok="as the document requires",
            unknown=condition.unknown,
        )
        for condition in _conditions(facts)
    ]


def _conditions(facts: RunFacts) -> list[Condition]:
    settings, pairing = settings_of(facts), facts.probe.get("paired")
    strategy, weights = settings.cross_domain_strategy, settings.weights
    return [
        Condition(
            "strategy",
            strategy,
            "no_skip",
            strategy in ("no_skip", "zero_skip"),
            "the document requires cross_domain_strategy no_skip: skips across contrasts carry noise",
        ),
        Condition(
            "recon weight",
            weights.recon,
            "< 1.0",
            weights.recon < 1.0,
            "the document recommends 0.1 to 0.2, and 0.05 in the extreme",
        ),
        Condition(
            "content weight",
            weights.content,
            f"> 0 (document), < {COLLAPSING_CONTENT} (measured)",
            None if weights.content == 0 else weights.content < COLLAPSING_CONTENT,
            f"the document requires 1.0, but from {COLLAPSING_CONTENT} on the encoder collapsed in every measurement; "
            "up to 0.01 it did not",
            unknown="not needed: the cross path learns without a content term",
        ),
        Condition(
            "pairs",
            pairing,
            f"> {PAIRED}",
            None if pairing is None else pairing > PAIRED,
            "the edges of a slice's two contrasts match no better than those of unrelated slices: the data is not "
            "paired; check how the shards were built",
            unknown="needs at least two paired validation slices",
        ),
    ]


def blurry(facts: RunFacts) -> list[Check]:
    """Rules 2 and 6: the images are too blurry."""
    settings = settings_of(facts)
    weights = settings.weights
    outputs = (f"sharpness_pd_{settings.restore_path}", f"sharpness_pdfs_{settings.restore_path}")
    sharpness = _mean(value for name, value in facts.probe.items() if name.startswith(outputs))
    caveat = " Measured: the encoder has collapsed, and no recon weight sharpens that." if is_collapsed(facts) else ""
    advice = {
        NOISE_LEAKAGE: f"latent_channels {settings.latent_channels} -> 512, weights.recon {weights.recon:g} -> 0.3, "
        f"weights.edge {weights.edge:g} -> 0.05.",
        SOLUTION_SUMMARY: f"weights.recon {weights.recon:g} -> 1.0.",
    }
    return [
        check(
            "too blurry",
            sharpness,
            f"edge strength >= {SHARP} of clean",
            None if sharpness is None else sharpness >= SHARP,
            source=document,
            group=GROUP,
            problem=changes + caveat,
            ok="sharp enough",
            unknown="needs clean images",
        )
        for document, changes in advice.items()
    ]


def unstable(facts: RunFacts) -> list[Check]:
    """Rules 3 and 7: training is unstable."""
    oscillation = facts.oscillation("loss_denoiser")
    lower_lr = f"optimizer.lr {facts.config.optimizer.lr:g} -> 1e-4"
    advice = {
        NOISE_LEAKAGE: f"the cross weight {settings_of(facts).weights.cross:g} is too large: train in two stages "
        f"(progressive_training), {lower_lr}, loop.clip_norm {facts.config.loop.clip_norm} -> 0.5",
        SOLUTION_SUMMARY: lower_lr,
    }
    return [
        check(
            "unstable",
            oscillation,
            f"<= {MAX_OSCILLATION}",
            None if oscillation is None else oscillation <= MAX_OSCILLATION,
            source=document,
            group=GROUP,
            problem=changes,
            ok="smooth",
            unknown=f"needs at least {MIN_LOGS_FOR_OSCILLATION} training logs: train longer, or lower "
            "tracking.log_every",
        )
        for document, changes in advice.items()
    ]


def target_skip(facts: RunFacts) -> Check:
    """Rule 4: with a flat cross loss, try the target's skips, which is checked for the leak it causes."""
    flat, strategy = is_flat(facts), settings_of(facts).cross_domain_strategy
    name, share = "cross flat? try target_skip", facts.metric("cross_over_floor")
    if strategy in ("use_target_skip", "mixed_skip"):
        return check(
            name,
            share,
            f"cross / floor >= {LEAK_MARGIN}",
            None if share is None else share >= LEAK_MARGIN,
            source=SOLUTION_SUMMARY,
            group=GROUP,
            problem="the cross loss is below its noise floor: the target's noise leaks through its skips",
            ok="the cross loss is above its noise floor",
        )
    return check(
        name,
        strategy,
        "not flat",
        None if flat is None else not flat,
        source=SOLUTION_SUMMARY,
        group=GROUP,
        problem=f"do not: target skips copy the target's noise (docs/dual_domain.md). {alternative(facts)}",
        ok="not needed",
    )


def all_losses_large(facts: RunFacts) -> Check:
    """Rule 5: all losses are large."""
    losses = [facts.final(name) for name in ("content", "recon", "cross")]
    smallest = min((loss for loss in losses if loss is not None), default=None)
    median = _mean(value for name, value in facts.probe.items() if name.startswith("median_"))
    scale = "" if median is None else f"; the images' median magnitude is {median:.3g}"
    return check(
        "all losses large",
        smallest,
        "smallest of content, recon, cross <= 1",
        None if smallest is None else smallest <= 1,
        source=SOLUTION_SUMMARY,
        group=GROUP,
        ok=f"not all{scale}",
        problem=f"check the data and data.normalise{scale} (median should give 1)",
    )


def still_failing(facts: RunFacts) -> Check:
    """Rule 11: what to question when nothing has helped."""
    pairing, flat = facts.probe.get("paired"), is_flat(facts)
    pairs = "the pairs are real" if (pairing or 0) > PAIRED else "the data is not paired"
    return check(
        "still failing: pairs, latent",
        pairing,
        f"pairs > {PAIRED}",
        None if flat is None or pairing is None else not flat,
        source=QUICK_REFERENCE,
        group=GROUP,
        ok="not failing",
        problem=f"{pairs}; the document would try latent_channels {settings_of(facts).latent_channels} -> 1024. "
        f"{alternative(facts)}",
    )


def added_noise(facts: RunFacts) -> Check:
    """Rule 12: too much noise is added to the inputs; more than documented may be fine on data that is noisier yet."""
    settings = settings_of(facts)
    sigma = max(settings.sigma_a, settings.sigma_b)
    data_noise = max((value for name, value in facts.probe.items() if name.startswith("noise_")), default=None)
    comparison = "" if data_noise is None else f"; the data's own noise is {data_noise:.3g} in the same unit"
    is_good: bool | None = False
    if sigma <= DOCUMENTED_SIGMA:
        is_good = True
    elif data_noise is not None and sigma <= data_noise:
        is_good = None
    return check(
        "noise added to the inputs",
        float(sigma),
        f"<= {DOCUMENTED_SIGMA}",
        is_good,
        source=SOLUTION_SUMMARY,
        group=GROUP,
        ok=f"as the document requires{comparison}",
        problem=f"sigma_a, sigma_b -> {DOCUMENTED_SIGMA}{comparison}",
        unknown=f"more than the document allows, but less than the data already has{comparison}",
    )


def identity_mapping(facts: RunFacts) -> Check:
    """Rule 13: decoders that are initialised to zero."""
    is_on, share = settings_of(facts).identity_mapping, facts.probe.get("reached_decoder_a")
    gradients = "" if share is None else f": {share:.1%} of the decoder's parameters get a gradient"
    return check(
        "identity mapping",
        "on" if is_on else "off",
        "off",
        not is_on,
        source=SOLUTION_SUMMARY,
        group=GROUP,
        ok=f"decoders start from random weights{gradients}",
        problem=f"set identity_mapping to false{gradients}; a decoder of zeros blocks the gradient",
    )


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return statistics.fmean(known) if known else None
