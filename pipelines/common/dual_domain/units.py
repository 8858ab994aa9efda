"""Whether the loss terms are in one unit, and what that says about a flat cross loss."""

from quell.pipelines.common.dual_domain.symptoms import is_flat, settings_of
from quell.pipelines.reporting.checks import INCONCLUSIVE, Check, Dispute, check, format_value
from quell.pipelines.reporting.documents import NOISE_LEAKAGE, QUICK_REFERENCE, SOLUTION_SUMMARY
from quell.pipelines.reporting.facts import RunFacts

GROUP = "Measured"

NEGLIGIBLE = 0.1
"""Effective weight of the cross term relative to that of recon below which it hardly takes part in training."""
LARGE_SIGMA = 0.1
"""Added noise, in units of the median, from which on the documents' "too much noise" could be the reason."""


def unit_checks(facts: RunFacts) -> list[Check]:
    """The effective weight of the cross term: its weight times the unit it is measured in."""
    settings, share = settings_of(facts), effective_share(facts)
    unit = _unit(facts)
    shown = None
    if unit is not None:
        shown = f"cross {settings.weights.cross:g} x {unit:.2g} against recon {settings.weights.recon:g}"
    return [
        check(
            "units of the loss terms",
            shown,
            f"cross x unit >= {NEGLIGIBLE} recon",
            None if share is None else share >= NEGLIGIBLE,
            source="measured",
            group=GROUP,
            problem="the cross and edge terms are in units of the stored values, content and recon in units of the "
            "median: with numbers this small the cross term has no weight beside recon, and stays flat whatever skips "
            "and weights are chosen; set pipeline.units=median",
            ok="the cross term has its weight",
            unknown="needs the training shards, a cross weight and a recon weight",
        )
    ]


def effective_share(facts: RunFacts) -> float | None:
    """Effective weight of the cross term over that of recon; None where either is 0, or the unit is not known."""
    weights, unit = settings_of(facts).weights, _unit(facts)
    return None if unit is None or not weights.recon or not weights.cross else weights.cross * unit / weights.recon


def why_flat(facts: RunFacts) -> Dispute:
    """Which explanation of a flat cross loss fits: skips, weights, added noise, or units?"""
    settings, share, flat = settings_of(facts), effective_share(facts), is_flat(facts)
    strategy, sigma = settings.cross_domain_strategy, max(settings.sigma_a, settings.sigma_b)
    candidates = []
    if strategy not in ("no_skip", "zero_skip"):
        candidates.append(f"skips ({QUICK_REFERENCE})")
    if settings.weights.recon >= settings.weights.cross or settings.weights.content == 0:
        candidates.append(f"weights ({NOISE_LEAKAGE})")
    if sigma >= LARGE_SIGMA:
        candidates.append(f"added noise ({SOLUTION_SUMMARY})")
    if flat is None:
        supports = INCONCLUSIVE
    elif not flat:
        supports = "none is needed: the cross loss is not flat here"
    elif share is not None and share < NEGLIGIBLE:
        supports = f"units: the cross term has {share:.1e} times the weight of recon; mend that before anything else"
    elif candidates:
        supports = f"not units; what remains: {', '.join(candidates)}"
    else:
        supports = "none of the four: what the other contrast does not show cannot be predicted from it"
    return Dispute(
        "Why is the cross loss flat?",
        f"{QUICK_REFERENCE}: skips within a contrast. {NOISE_LEAKAGE}: skips across contrasts and the weights. "
        f"{SOLUTION_SUMMARY}: skips, weights, and added noise of 0.25. Measured (docs/dual_domain.md): the original "
        "measures the cross term in stored units, which for raw k-space data is 1e-5 of the others.",
        f"strategy {strategy}, weights recon {settings.weights.recon:g}, cross {settings.weights.cross:g}, added sigma "
        f"{sigma:g}, units {settings.units}, cross over recon in effective weight {format_value(share)}",
        supports,
    )


def _unit(facts: RunFacts) -> float | None:
    """The mean unit of the cross term, in units of the median; None where it is not known."""
    settings = settings_of(facts)
    if settings.units == "median":
        return 1.0
    scales = [value for name, value in facts.probe.items() if name in ("scale_pd", "scale_pdfs")]
    return settings.raw_gain * sum(scales) / len(scales) if scales else None
