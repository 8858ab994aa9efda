"""Questions on which the dual-domain documents contradict each other, and which answer a run's measurements support."""

from quell.pipelines.common.dual_domain.instruments import COLLAPSE, CORRELATED, FLAT, LEAK_MARGIN
from quell.pipelines.common.dual_domain.symptoms import cross_gain, is_collapsed, is_flat, same_gain, settings_of
from quell.pipelines.reporting.checks import INCONCLUSIVE, Dispute, format_value
from quell.pipelines.reporting.documents import (
    FINAL_SOLUTION,
    NOISE_LEAKAGE,
    QUICK_REFERENCE,
    SOLUTION_SUMMARY,
    SUPERVISED_SOLUTION,
)
from quell.pipelines.reporting.facts import RunFacts

SMALL_CONTENT = 0.015
HALF = 0.5

ALIGNED = 0.9
"""Matched over mismatched latent distance below which a slice's two contrasts count as closer than unrelated slices."""

LOSS_SCHEDULES = {
    NOISE_LEAKAGE: {10: 0.5, 20: 0.3},
    QUICK_REFERENCE: {5: 0.8, 10: 0.5},
    FINAL_SOLUTION: {5: 0.5, 10: 0.3, 20: 0.2},
}
"""Document -> epoch -> upper limit of the cross loss."""


def disputes(facts: RunFacts) -> list[Dispute]:
    """Every contradiction, the most important first."""
    return [
        small_content(facts),
        target_skip(facts),
        halving(facts),
        recon_weight(facts),
        same_skips(facts),
        schedules(facts),
        noisy_targets(facts),
    ]


def small_content(facts: RunFacts) -> Dispute:
    """Is a small content loss a success?"""
    content, spread = facts.final("content"), facts.metric("latent_spread")
    alignment = facts.metric("matched_over_mismatched")
    if content is None or spread is None:
        supports = INCONCLUSIVE
    elif is_collapsed(facts):
        supports = "collapse: the encoder gives every slice the same latent"
    elif content >= SMALL_CONTENT:
        supports = "neither: the content loss is not small here"
    elif (alignment or 1) < ALIGNED:
        supports = (
            f"{NOISE_LEAKAGE}, {QUICK_REFERENCE} and {SOLUTION_SUMMARY}, for this run: the content loss is small, and "
            "the latent still depends on the image"
        )
    else:
        supports = "neither: small without a collapse, but a slice's two contrasts are no closer than unrelated slices"
    return Dispute(
        "Is a content loss near 0.01 a success?",
        f"{NOISE_LEAKAGE}, {QUICK_REFERENCE} and {SOLUTION_SUMMARY}: yes, it means a shared representation. Measured "
        "elsewhere (docs/dual_domain.md): it is what a collapsed encoder looks like.",
        f"content {format_value(content)}, latent spread {format_value(spread)} (collapsed below {COLLAPSE}), matched "
        f"/ mismatched distance {format_value(alignment)} (1: no alignment)",
        supports,
    )


def target_skip(facts: RunFacts) -> Dispute:
    """Do the target's skips leak its noise?"""
    strategy = settings_of(facts).cross_domain_strategy
    share, leak = facts.metric("cross_over_floor"), facts.metric("leak_target")
    if strategy not in ("use_target_skip", "mixed_skip") or (share is None and leak is None):
        supports = f"{INCONCLUSIVE}: this run uses {strategy}; run configs/cross_target_skip.yaml to find out"
    elif (share is not None and share < LEAK_MARGIN) or (leak is not None and abs(leak) > CORRELATED):
        supports = f"{NOISE_LEAKAGE}: the target's noise is copied"
    else:
        supports = f"{INCONCLUSIVE} yet: no leak so far, but one may appear with more training"
    return Dispute(
        "Skips across contrasts: use_target_skip?",
        f"{SOLUTION_SUMMARY}: the best in theory, and to be tried when the cross loss is flat. {NOISE_LEAKAGE}: "
        "forbidden, because it lets noise through.",
        f"strategy {strategy}, cross / floor {format_value(share)} (leak below {LEAK_MARGIN}), correlation of the "
        f"error with the target's noise {format_value(leak)}",
        supports,
    )


def halving(facts: RunFacts) -> Dispute:
    """Does a falling cross loss mean denoising?"""
    fall, share, gain = facts.fall("cross"), facts.metric("cross_over_floor"), cross_gain(facts)
    if fall is None or share is None or gain is None:
        supports = INCONCLUSIVE
    elif share < LEAK_MARGIN:
        supports = f"{NOISE_LEAKAGE}: the cross loss is below the floor, so its fall means copying noise"
    elif fall >= HALF:
        supports = f"{SOLUTION_SUMMARY}: it fell by half above the floor" + (
            " and the images are cleaner" if gain > 0 else ", but the images are not cleaner than the noisy ones"
        )
    elif gain > 0:
        supports = f"{NOISE_LEAKAGE}: the images are cleaner although the loss did not halve"
    else:
        supports = "neither: it did not halve, and the images are not cleaner"
    return Dispute(
        "Does halving the cross loss mean success?",
        f"{SOLUTION_SUMMARY}: yes, a fall by half or more. {NOISE_LEAKAGE}: only without noise patterns and with "
        "cleaner images; the target's own noise is a floor that cannot be undercut without copying it.",
        f"fell by {_percent(fall)}, cross / floor {format_value(share)}, PSNR of the cross path over noisy "
        f"{format_value(gain)} dB",
        supports,
    )


def recon_weight(facts: RunFacts) -> Dispute:
    """Should the weight of reconstruction be lowered or raised?"""
    weight, leak, flat = settings_of(facts).weights.recon, facts.metric("leak_same"), is_flat(facts)
    if leak is None or flat is None:
        supports = INCONCLUSIVE
    elif is_collapsed(facts):
        supports = "neither: the encoder has collapsed, and recon does not change that"
    elif leak > CORRELATED:
        supports = f"{NOISE_LEAKAGE}: the same path copies its noise, and a higher weight would make it copy better"
    elif flat:
        supports = f"{SOLUTION_SUMMARY}, weakly: the same path does not copy noise, so its weight may be raised"
    else:
        supports = f"neither: with {weight:g} the cross path learns and the same path does not copy noise"
    return Dispute(
        "The weight of recon: lower or raise it?",
        f"{NOISE_LEAKAGE} and {QUICK_REFERENCE}: lower it to 0.05 to 0.2, so that the cross loss falls. "
        f"{SOLUTION_SUMMARY}: raise it to 1.0 against blur ({NOISE_LEAKAGE} itself: to 0.3).",
        f"weight {weight:g}, correlation of the same path's error with its own noise {format_value(leak)}, its PSNR "
        f"over noisy {format_value(same_gain(facts))} dB",
        supports,
    )


def same_skips(facts: RunFacts) -> Dispute:
    """Do same-domain skips keep the cross path from learning?"""
    settings, share, flat = settings_of(facts), facts.metric("cross_over_constant"), is_flat(facts)
    has_skips = settings.same_domain_use_skip
    if share is None or settings.cross_domain_strategy not in ("no_skip", "zero_skip"):
        supports = INCONCLUSIVE
    elif is_collapsed(facts):
        supports = "neither: the encoder has collapsed, which keeps the cross path flat with or without skips"
    elif has_skips and flat:
        supports = f"{QUICK_REFERENCE}, as far as one run can tell: flat with same-domain skips"
    elif has_skips:
        supports = f"{NOISE_LEAKAGE}: the cross path learns although the same path has skips"
    elif flat:
        supports = "neither: flat even without any skips"
    else:
        supports = f"{QUICK_REFERENCE}, as far as one run can tell: it learns without skips"
    return Dispute(
        "Skips within a contrast: do they keep the cross path from learning?",
        f"{QUICK_REFERENCE}: yes, use no_skip_everywhere. {NOISE_LEAKAGE}: its first choice, pure_noise2noise, has "
        "them.",
        f"same_domain_use_skip {str(has_skips).lower()}, cross / best constant {format_value(share)} (flat above "
        f"{FLAT}), latent spread {format_value(facts.metric('latent_spread'))}",
        supports,
    )


def schedules(facts: RunFacts) -> Dispute:
    """Which document's forecast of the cross loss holds?"""
    floor = facts.metric("floor")
    values = {epoch: facts.at_epoch("cross", epoch) for epoch in (5, 10, 20)}
    known = {epoch: value for epoch, value in values.items() if value is not None}
    met = [
        document
        for document, limits in LOSS_SCHEDULES.items()
        if limits.keys() & known.keys() and all(known[e] <= limit for e, limit in limits.items() if e in known)
    ]
    supports = INCONCLUSIVE if not known else ", ".join(met) if met else "none of them"
    if floor is not None and floor > HALF:
        supports += f"; with a noise floor of {floor:.3g} none of these can be met without copying noise"
    measured = "; ".join(f"epoch {epoch}: {value:.3g}" for epoch, value in known.items())
    return Dispute(
        "How fast should the cross loss fall?",
        f"{NOISE_LEAKAGE}: < 0.5 at epoch 10, < 0.3 at 20. {QUICK_REFERENCE}: 0.8 at 5, 0.5 at 10. {FINAL_SOLUTION}: "
        "< 0.5 at 5, < 0.3 at 10, < 0.2 at 20. None of them states the unit.",
        f"{measured or 'the run ended before epoch 5'}; floor {format_value(floor)}",
        supports,
    )


def noisy_targets(facts: RunFacts) -> Dispute:
    """Are noisy targets the mistake?"""
    gain, targets = cross_gain(facts), settings_of(facts).targets
    if targets != "noisy" or gain is None:
        supports = INCONCLUSIVE
    elif gain > 0:
        supports = "Noise2Noise: trained against noisy targets, the cross path is cleaner than the noisy image"
    elif is_flat(facts) is False:
        supports = (
            "Noise2Noise, in part: the cross path learns an image from noisy targets; the PSNR it lacks is what the "
            "other contrast does not contain"
        )
    else:
        supports = INCONCLUSIVE
    return Dispute(
        "Are noisy targets the mistake?",
        f"{SUPERVISED_SOLUTION}, the latest document: yes, clean targets are needed. {NOISE_LEAKAGE}: independent "
        "noise averages out, as in Noise2Noise.",
        f"targets {targets}, PSNR of the cross path over noisy {format_value(gain)} dB, cross / best constant "
        f"{format_value(facts.metric('cross_over_constant'))}",
        supports,
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
