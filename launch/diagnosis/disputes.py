"""Where two of the documents contradict each other: what this run's measurements support."""

from launch.diagnosis.checks import Dispute, shown
from launch.diagnosis.dual import collapsed, is_flat
from launch.diagnosis.facts import Facts
from pipelines.common.dual_domain.instruments import CORRELATED, LEAK_MARGIN

UNTOLD = "cannot tell"

ALIGNED = 0.9
"""Matched over mismatched latent distance below which the contrasts of one slice are closer than strangers."""


def disputes(facts: Facts) -> list[Dispute]:
    """Every contradiction, in the order in which they matter."""
    return [
        small_content(facts),
        target_skip(facts),
        halving(facts),
        recon_weight(facts),
        same_skips(facts),
        schedules(facts),
        noisy_targets(facts),
    ]


def small_content(facts: Facts) -> Dispute:
    """Is a small content loss a success?"""
    content, spread = facts.end("content"), facts.metric("latent_spread")
    aligned = facts.metric("matched_over_mismatched")
    if content is None or spread is None:
        supports = UNTOLD
    elif collapsed(facts):
        supports = "collapse: the encoder says the same of every slice"
    elif content < 0.015:
        supports = (
            "000, 001, 002, for this run: small, and the latent still depends on the image"
            if (aligned or 1) < ALIGNED
            else "neither: small and not collapsed, but a slice's two contrasts are no closer than strangers"
        )
    else:
        supports = "neither: the content loss is not small here"
    return Dispute(
        "Is a content loss near 0.01 a success?",
        "000, 001 and 002: yes, a shared representation. Measured elsewhere (docs/dual_domain.md): it is how a "
        "collapsed encoder looks.",
        f"content {shown(content)}, latent spread {shown(spread)} (collapsed below 0.01), matched / mismatched "
        f"distance {shown(aligned)} (1: no alignment)",
        supports,
    )


def target_skip(facts: Facts) -> Dispute:
    """Do the target's skips leak?"""
    strategy = facts.config.pipeline.cross_domain_strategy  # type: ignore[attr-defined]
    share, leak = facts.metric("cross_over_floor"), facts.metric("leak_target")
    if strategy not in ("use_target_skip", "mixed_skip") or (share is None and leak is None):
        supports = f"{UNTOLD}: this run uses {strategy}; run configs/cross_target_skip.yaml to see it"
    elif (share is not None and share < LEAK_MARGIN) or (leak is not None and abs(leak) > CORRELATED):
        supports = "000: the target's noise is copied"
    else:
        supports = f"{UNTOLD} yet: no leak so far, which may come with more training"
    return Dispute(
        "Skips across contrasts: use_target_skip?",
        "002: the best in theory, and to be tried when the cross loss is flat. 000: forbidden, it lets noise through.",
        f"strategy {strategy}, cross / floor {shown(share)} (leak below {LEAK_MARGIN}), correlation of the error with "
        f"the target's noise {shown(leak)}",
        supports,
    )


def halving(facts: Facts) -> Dispute:
    """Does a falling cross loss mean denoising?"""
    fall, share, gain = facts.fall("cross"), facts.metric("cross_over_floor"), _gain(facts, "cross")
    if fall is None or share is None or gain is None:
        supports = UNTOLD
    elif share < LEAK_MARGIN:
        supports = "000: the cross loss is below the floor, so falling means copying noise"
    elif fall >= 0.5:
        supports = "002: it fell by half above the floor" + (
            " and the images are cleaner" if gain > 0 else ", but the images are not cleaner than the noisy ones"
        )
    elif gain > 0:
        supports = "000: the images are cleaner although the loss did not halve"
    else:
        supports = "neither: it did not halve and the images are not cleaner"
    return Dispute(
        "Is a cross loss halved from its start the mark of success?",
        "002: yes, by half or more. 000: only without noise patterns and with cleaner images; the target's own noise "
        "is a floor that no honest model goes below.",
        f"fell by {_percent(fall)}, cross / floor {shown(share)}, PSNR of the cross path over noisy {shown(gain)} dB",
        supports,
    )


def recon_weight(facts: Facts) -> Dispute:
    """Lower or raise the weight of reconstruction?"""
    weight = facts.config.pipeline.weights.recon  # type: ignore[attr-defined]
    leak, flat, gain = facts.metric("leak_same"), is_flat(facts), _gain(facts, "same")
    if leak is None or flat is None:
        supports = UNTOLD
    elif collapsed(facts):
        supports = "neither: the encoder has collapsed, and recon does not change that"
    elif leak > CORRELATED:
        supports = "000: the own path copies its noise, and more weight would teach it to copy better"
    elif flat:
        supports = "002, weakly: the own path does not copy noise, so its weight may be raised"
    else:
        supports = f"neither: with {weight:g} the cross path learns and the own path does not copy noise"
    return Dispute(
        "The weight of recon: down or up?",
        "000 and 001: down to 0.05 to 0.2, for a cross loss that falls. 002: up to 1.0 against blur (000 itself: up to "
        "0.3).",
        f"weight {weight:g}, correlation of the own path's error with its own noise {shown(leak)}, its PSNR over noisy "
        f"{shown(gain)} dB",
        supports,
    )


def same_skips(facts: Facts) -> Dispute:
    """Do same-domain skips keep the cross path from learning?"""
    cfg, share = facts.config.pipeline, facts.metric("cross_over_constant")
    skips, strategy = cfg.same_domain_use_skip, cfg.cross_domain_strategy  # type: ignore[attr-defined]
    flat = is_flat(facts)
    if share is None or strategy not in ("no_skip", "zero_skip"):
        supports = UNTOLD
    elif collapsed(facts):
        supports = "neither: the encoder has collapsed, which keeps the cross path flat with skips and without"
    elif skips:
        supports = (
            "001, as far as one run goes: flat with same-domain skips"
            if flat
            else "000: the cross path learns although the own path has skips"
        )
    else:
        supports = (
            "neither: flat even without any skip" if flat else "001, as far as one run goes: it learns without skips"
        )
    return Dispute(
        "Skips within a contrast: do they keep the cross path from learning?",
        "001: yes, use no_skip_everywhere. 000: its first choice, pure_noise2noise, has them.",
        f"same_domain_use_skip {str(skips).lower()}, cross / best constant {shown(share)} (flat above 0.97), latent "
        f"spread {shown(facts.metric('latent_spread'))}",
        supports,
    )


def schedules(facts: Facts) -> Dispute:
    """Which forecast of the cross loss?"""
    floor, values = facts.metric("floor"), {epoch: facts.at_epoch("cross", epoch) for epoch in (5, 10, 20)}
    limits = {"000": {10: 0.5, 20: 0.3}, "001": {5: 0.8, 10: 0.5}, "FINAL_SOLUTION": {5: 0.5, 10: 0.3, 20: 0.2}}
    known = {epoch: value for epoch, value in values.items() if value is not None}
    met = [
        name
        for name, rows in limits.items()
        if set(rows) & set(known) and all(known[e] <= limit for e, limit in rows.items() if e in known)
    ]
    supports = UNTOLD if not known else ", ".join(met) if met else "none of them"
    if floor is not None and floor > 0.5:
        supports += f"; with a noise floor of {floor:.3g} none of these can be met honestly"
    return Dispute(
        "How fast should the cross loss fall?",
        "000: < 0.5 at epoch 10, < 0.3 at 20. 001: 0.8 at 5, 0.5 at 10. FINAL_SOLUTION: < 0.5 at 5, < 0.3 at 10, < 0.2 "
        "at 20. None says in which unit.",
        "; ".join(f"epoch {epoch}: {value:.3g}" for epoch, value in known.items()) + f"; floor {shown(floor)}"
        if known
        else f"the run ended before epoch 5; floor {shown(floor)}",
        supports,
    )


def noisy_targets(facts: Facts) -> Dispute:
    """Are noisy targets the mistake?"""
    gain, targets = _gain(facts, "cross"), facts.config.pipeline.targets  # type: ignore[attr-defined]
    learns = is_flat(facts) is False
    if targets != "noisy" or gain is None:
        supports = UNTOLD
    elif gain > 0:
        supports = "Noise2Noise: learned from noisy targets, the cross path is cleaner than the noisy image"
    elif learns:
        supports = (
            "Noise2Noise, in part: the cross path learns an image from noisy targets; what is missing in PSNR "
            "is what the other contrast does not know"
        )
    else:
        supports = UNTOLD
    return Dispute(
        "Are noisy targets the mistake?",
        "The last note after 000 to 002 (SOLUTION_SUPERVISED): yes, clean targets are needed. 000: independent noise "
        "averages out, as in Noise2Noise.",
        f"targets {targets}, PSNR of the cross path over noisy {shown(gain)} dB, cross / best constant "
        f"{shown(facts.metric('cross_over_constant'))}",
        supports,
    )


def _gain(facts: Facts, path: str) -> float | None:
    made = facts.mean_of(f"pd_{path}/psnr", f"pdfs_{path}/psnr")
    noisy = facts.mean_of(f"pd_{path}/noisy_psnr", f"pdfs_{path}/noisy_psnr")
    return None if made is None or noisy is None else made - noisy


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
