"""The decision tree of the quick reference: first the content loss, then reconstruction, then the cross path.

Losses are in the method's unit: images divided by their median magnitude, summed over both contrasts.
"""

from quell.pipelines.common.dual_domain.instruments import FLAT
from quell.pipelines.common.dual_domain.symptoms import alternative, is_collapsed, is_flat, settings_of
from quell.pipelines.reporting.checks import Check, check
from quell.pipelines.reporting.documents import QUICK_REFERENCE
from quell.pipelines.reporting.facts import MIN_FALL, MIN_LOGS_FOR_FALL, RunFacts

GROUP = f"Decision tree ({QUICK_REFERENCE})"

CONTENT_FINE, CONTENT_BAD, RECON_BAD = 0.01, 0.1, 1.0


def decision_tree(facts: RunFacts) -> list[Check]:
    """The four steps of the tree."""
    return [content_loss(facts), recon_loss(facts), cross_path(facts), skip_dependence(facts)]


def content_loss(facts: RunFacts) -> Check:
    """Step 1: the content loss; a small one is no success if the encoder has collapsed."""
    content, spread = facts.final("content"), facts.metric("latent_spread")
    is_between = content is not None and CONTENT_FINE <= content <= CONTENT_BAD
    problem = (
        "the document blames the encoder. Measured: the cross path learns even while the latents of the two contrasts "
        "differ; go by the collapse and flat findings instead"
    )
    if content is not None and spread is not None and is_collapsed(facts):
        problem = (
            f"the document takes a content loss of {content:.2g} as proof of a good encoder, but latents of different "
            f"slices differ by only {spread:.2g} of their magnitude: the encoder gives every slice the same latent. "
            f"Lower weights.content to {CONTENT_FINE}, or 0"
        )
    return check(
        "1 content loss",
        content,
        f"< {CONTENT_FINE} fine, > {CONTENT_BAD} bad",
        None if content is None or is_between else content < CONTENT_FINE and not is_collapsed(facts),
        source=QUICK_REFERENCE,
        group=GROUP,
        problem=problem,
        ok="fine by the document, and the latent depends on the image",
        unknown="between the document's two thresholds" if is_between else "not measured in this run",
    )


def recon_loss(facts: RunFacts) -> Check:
    """Step 2: the reconstruction loss must be small enough and falling."""
    recon, fall = facts.final("recon"), facts.fall("recon")
    is_good: bool | None = None
    if recon is not None and recon > RECON_BAD:
        is_good = False
    elif recon is not None and fall is not None:
        is_good = fall > 0
    return check(
        "2 recon loss",
        recon,
        f"<= {RECON_BAD}, falling",
        is_good,
        source=QUICK_REFERENCE,
        group=GROUP,
        problem="the document blames the decoder; see which networks receive a gradient",
        ok="the decoder learns",
        unknown=f"needs at least {MIN_LOGS_FOR_FALL} training logs",
    )


def cross_path(facts: RunFacts) -> Check:
    """Step 3: the cross path must learn more than a constant image."""
    flat, share = is_flat(facts), facts.metric("cross_over_constant")
    no_skips_left = ""
    if not settings_of(facts).same_domain_use_skip:
        no_skips_left = "This run has no skips at all and is flat, which by the document calls for a different design. "
    return check(
        "3 cross path",
        facts.fall("cross") if share is None else share,
        f"falls by > {MIN_FALL:.0%}" if share is None else f"cross / best constant <= {FLAT}",
        None if flat is None else not flat,
        source=QUICK_REFERENCE,
        group=GROUP,
        problem=f"the document suggests no_skip_everywhere. {no_skips_left}{alternative(facts)}",
        ok="the cross path predicts an image",
    )


def skip_dependence(facts: RunFacts) -> Check:
    """Step 4: equal latents with a constant cross error, which the document takes for a decoder that needs skips."""
    content, flat = facts.final("content"), is_flat(facts)
    cause = (
        "the encoder has collapsed, so there is nothing to decode"
        if is_collapsed(facts)
        else "the latent still depends on the image, so the document may be right"
    )
    return check(
        "4 z_a = z_b and cross error constant",
        None if content is None else f"content {content:.3g}",
        f"content >= {CONTENT_FINE}, or cross not flat",
        None if content is None or flat is None else not (content < CONTENT_FINE and flat),
        source=QUICK_REFERENCE,
        group=GROUP,
        problem="by the document, the decoder cannot work without skips: use no_skip_everywhere. Measured: " + cause,
        ok="this pattern does not occur",
    )
