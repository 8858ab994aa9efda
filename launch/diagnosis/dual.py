"""The decision tree and every diagnostic rule of the dual-domain documents, as checks of measured values.

Losses are in this project's unit: images divided by their median magnitude, both contrasts added up.
"""

from typing import Any

from launch.diagnosis.checks import RECOMMENDED, Check, check
from launch.diagnosis.facts import Facts
from launch.diagnosis.training import ROUGH, STANDING
from pipelines.common.dual_domain.instruments import COLLAPSE, FLAT, LEAK_MARGIN

TREE, RULES = "Decision tree (001)", "Rules of the documents"

CONTENT_FINE, CONTENT_BAD, RECON_BAD = 0.01, 0.1, 1.0
COLLAPSING = 0.05
"""Content weight from which on the encoder collapsed in every measurement; up to 0.01 it did not."""
SHARP = 0.5
"""Gradient energy, as a share of the clean image's, below which an image is called blurry."""
PAIRED = 0.05
"""Lead in contour correlation that slices of one pair must have over strangers."""
DOCUMENTED_SIGMA = 0.01


def dual_checks(facts: Facts) -> list[Check]:
    """Tree first, then the rules in the order of the documents."""
    return [
        *tree(facts),
        *cross_is_flat(facts),
        *blurry(facts),
        *unstable(facts),
        target_skip(facts),
        all_large(facts),
        still_failing(facts),
        added_noise(facts),
        zero_start(facts),
    ]


def collapsed(facts: Facts) -> bool:
    """Whether the latent no longer depends on the image."""
    spread = facts.metric("latent_spread")
    return spread is not None and spread < COLLAPSE


def is_flat(facts: Facts) -> bool | None:
    """Whether the cross path has learned no more than a mean; not measured, whether its loss stood still."""
    share, fall = facts.metric("cross_over_constant"), facts.fall("cross")
    if share is not None:
        return share > FLAT
    return None if fall is None else fall <= STANDING


def tree(facts: Facts) -> list[Check]:
    """Content, then reconstruction, then the cross path."""
    content, recon, fall = facts.end("content"), facts.end("recon"), facts.fall("recon")
    between = content is not None and CONTENT_FINE <= content <= CONTENT_BAD
    good = None if content is None or between else content < CONTENT_FINE and not collapsed(facts)
    spread = facts.metric("latent_spread")
    nothing = (
        (
            f"001 calls a content loss of {content:.2g} a fine encoder, but latents of different slices differ by "
            f"{spread:.2g} of their size only: the encoder says the same of every slice. Lower weights.content to "
            f"{CONTENT_FINE}, or 0"
        )
        if content is not None and spread is not None and collapsed(facts)
        else ""
    )
    recon_good = None if recon is None else recon <= RECON_BAD and (None if fall is None else fall > 0)
    flat, cfg, share = is_flat(facts), _config(facts), facts.metric("cross_over_constant")
    return [
        check(
            "1 content loss",
            content,
            f"< {CONTENT_FINE} fine, > {CONTENT_BAD} bad",
            good,
            source="001",
            group=TREE,
            problem=nothing
            or "001: the encoder has a problem. Measured: latents of the two contrasts may differ "
            "and the cross path still learns; look at the collapse and flat findings instead",
            ok="fine by the document, and the latent depends on the image",
            unknown="between the document's two thresholds",
        ),
        check(
            "2 recon loss",
            recon,
            f"<= {RECON_BAD}, falling",
            recon_good,
            source="001",
            group=TREE,
            problem="001: the decoder has a problem; see where gradients arrive",
            ok="the decoder learns",
            unknown="needs four training logs",
        ),
        check(
            "3 cross path",
            facts.fall("cross") if share is None else share,
            f"falls by > {STANDING:.0%}" if share is None else f"cross / best constant <= {FLAT}",
            None if flat is None else not flat,
            source="001",
            group=TREE,
            problem="001: try no_skip_everywhere. "
            + (
                "This run has no skips anywhere and is flat: by the document the design must change. "
                if not cfg.same_domain_use_skip
                else ""
            )
            + _instead(facts),
            ok="the cross path predicts an image",
        ),
        check(
            "4 z_a = z_b and cross error constant",
            f"content {content:.3g}" if content is not None else None,
            f"content >= {CONTENT_FINE}, or cross not flat",
            None if content is None or flat is None else not (content < CONTENT_FINE and flat),
            source="001",
            group=TREE,
            problem="001: the decoder cannot work without skips, use no_skip_everywhere. Measured: "
            + (
                "the encoder has collapsed, so there is nothing to decode"
                if collapsed(facts)
                else "the latent still depends on the image, so this may be"
            ),
            ok="not this pattern",
        ),
    ]


def cross_is_flat(facts: Facts) -> list[Check]:
    """Rule 1: what must hold for the cross loss to fall, after document 000."""
    cfg, flat = _config(facts), is_flat(facts)
    weights = cfg.weights
    paired = facts.probe.get("paired")
    conditions: list[tuple[str, float | str | None, str, bool | None, str]] = [
        (
            "strategy",
            cfg.cross_domain_strategy,
            "no_skip",
            cfg.cross_domain_strategy in ("no_skip", "zero_skip"),
            "000: set cross_domain_strategy no_skip; skips across contrasts carry noise",
        ),
        ("recon weight", weights.recon, "< 1.0", weights.recon < 1.0, "000: 0.1 to 0.2, in the extreme 0.05"),
        (
            "content weight",
            weights.content,
            f"> 0 (000), < {COLLAPSING} (measured)",
            None if weights.content == 0 else weights.content < COLLAPSING,
            f"000 asks for 1.0; from {COLLAPSING} on the encoder collapsed in every measurement, up to 0.01 it did not",
        ),
        (
            "pairs",
            paired,
            f"> {PAIRED}",
            None if paired is None else paired > PAIRED,
            "the contours of a slice's two contrasts are no closer than those of different slices: the data is not "
            "paired, look at how the shards were built",
        ),
    ]
    found = []
    for name, value, threshold, good, advice in conditions:
        extra = {None: "", True: " (the cross loss is flat here)", False: " (but the cross loss is not flat)"}[flat]
        unknown = (
            "not needed: the cross path learns without a content term"
            if name == "content weight"
            else "needs two paired validation slices"
        )
        found.append(
            check(
                f"cross flat? {name}",
                value,
                threshold,
                good,
                source="000",
                group=RULES,
                problem=advice + extra,
                ok="as the document asks",
                unknown=unknown,
            )
        )
    return found


def blurry(facts: Facts) -> list[Check]:
    """Rules 2 and 6: the images are too blurry."""
    cfg = _config(facts)
    value = _mean(
        [
            v
            for name, v in facts.probe.items()
            if name.startswith(f"sharpness_pd_{cfg.restore_path}")
            or name.startswith(f"sharpness_pdfs_{cfg.restore_path}")
        ]
    )
    good = None if value is None else value >= SHARP
    why = " Measured: the encoder has collapsed, no weight of recon sharpens that." if collapsed(facts) else ""
    common: dict[str, Any] = {"group": RULES, "ok": "as sharp as may be", "unknown": "needs clean images"}
    return [
        check(
            "too blurry",
            value,
            f"contours >= {SHARP} of clean",
            good,
            source="000",
            **common,
            problem=f"latent_channels {cfg.latent_channels} -> 512, weights.recon {cfg.weights.recon:g} -> 0.3, "
            f"weights.edge {cfg.weights.edge:g} -> 0.05.{why}",
        ),
        check(
            "too blurry",
            value,
            f"contours >= {SHARP} of clean",
            good,
            source="002",
            **common,
            problem=f"weights.recon {cfg.weights.recon:g} -> 1.0.{why}",
        ),
    ]


def unstable(facts: Facts) -> list[Check]:
    """Rules 3 and 7: training is unstable."""
    rough, lr = facts.roughness("loss_denoiser"), facts.config.optimizer.lr
    good = None if rough is None else rough <= ROUGH
    unknown = "needs eight training logs: run longer or lower tracking.log_every"
    return [
        check(
            "unstable",
            rough,
            f"<= {ROUGH}",
            good,
            source="000",
            group=RULES,
            ok="smooth",
            unknown=unknown,
            problem=f"the cross weight {_config(facts).weights.cross:g} is too large: train in two stages "
            f"(progressive_training), optimizer.lr {lr:g} -> 1e-4, loop.clip_norm "
            f"{facts.config.loop.clip_norm} -> 0.5",
        ),
        check(
            "unstable",
            rough,
            f"<= {ROUGH}",
            good,
            source="002",
            group=RULES,
            ok="smooth",
            unknown=unknown,
            problem=f"optimizer.lr {lr:g} -> 1e-4",
        ),
    ]


def target_skip(facts: Facts) -> Check:
    """Rule 4: with a flat cross loss, try the target's skips."""
    flat, strategy = is_flat(facts), _config(facts).cross_domain_strategy
    share = facts.metric("cross_over_floor")
    uses = strategy in ("use_target_skip", "mixed_skip")
    leaks = share is not None and share < LEAK_MARGIN
    bad = flat if not uses else None if share is None else leaks
    return check(
        "cross flat? try target_skip",
        share if uses else strategy,
        f"cross / floor >= {LEAK_MARGIN}" if uses else "not flat",
        None if bad is None else not bad,
        source="002",
        group=RULES,
        ok="the cross loss is above its noise floor" if uses else "not needed",
        problem="the cross loss is below its noise floor: the target's skips hand its noise through"
        if uses
        else f"do not: target skips copy the target's noise (docs/dual_domain.md). {_instead(facts)}",
    )


def all_large(facts: Facts) -> Check:
    """Rule 5: all losses are large."""
    values = {name: facts.end(name) for name in ("content", "recon", "cross")}
    least = min((value for value in values.values() if value is not None), default=None)
    medians = [value for name, value in facts.probe.items() if name.startswith("median_")]
    unit = f"; images come in with a median magnitude of {_mean(medians):.3g}" if medians else ""
    return check(
        "all losses large",
        least,
        "smallest of content, recon, cross <= 1",
        None if least is None else least <= 1,
        source="002",
        group=RULES,
        ok=f"not all{unit}",
        problem=f"check the data and data.normalise{unit} (1 is expected with median)",
    )


def still_failing(facts: Facts) -> Check:
    """Rule 11: what to question when nothing helped."""
    paired, flat, latent = facts.probe.get("paired"), is_flat(facts), _config(facts).latent_channels
    return check(
        "still failing: pairs, latent",
        paired,
        f"pairs > {PAIRED}",
        None if flat is None or paired is None else not flat,
        source="001",
        group=RULES,
        ok="not failing",
        problem=("the pairs are real" if (paired or 0) > PAIRED else "the data is not paired")
        + f"; 001 would try latent_channels {latent} -> 1024. {_instead(facts)}",
    )


def added_noise(facts: Facts) -> Check:
    """Rule 12: the noise added to the inputs is too large."""
    cfg = _config(facts)
    sigma = max(cfg.sigma_a, cfg.sigma_b)
    own = max((value for name, value in facts.probe.items() if name.startswith("noise_")), default=None)
    beside = "" if own is None else f"; the data's own noise is {own:.3g} in the same unit"
    within = own is not None and sigma <= own
    good = True if sigma <= DOCUMENTED_SIGMA else None if within else False
    return check(
        "noise added to the inputs",
        float(sigma),
        f"<= {DOCUMENTED_SIGMA}",
        good,
        source="002",
        group=RULES,
        ok=f"as the document asks{beside}",
        problem=f"sigma_a, sigma_b -> {DOCUMENTED_SIGMA}{beside}",
        unknown=f"more than the document allows, but less than there is anyway{beside}",
    )


def zero_start(facts: Facts) -> Check:
    """Rule 13: decoders that begin as zeros."""
    cfg = _config(facts)
    reached = facts.probe.get("reached_decoder_a")
    beside = "" if reached is None else f": {reached:.1%} of the decoder's parameters get a gradient"
    return check(
        "identity mapping",
        "on" if cfg.identity_mapping else "off",
        "off",
        not cfg.identity_mapping,
        source="002",
        group=RULES,
        ok=f"decoders start from random weights{beside}",
        problem=f"set identity_mapping false{beside}; a decoder of zeros passes no gradient on",
    )


def _config(facts: Facts) -> Any:
    return facts.config.pipeline


def _instead(facts: Facts) -> str:
    if collapsed(facts):
        return f"Measured: the encoder has collapsed; weights.content <= 0.01, or {RECOMMENDED}"
    return f"Measured: see collapse, leak and where gradients arrive; {RECOMMENDED} works"


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
