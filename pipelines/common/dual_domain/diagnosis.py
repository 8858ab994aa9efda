"""The dual-domain method's part of a diagnosis, and the columns it adds to comparisons of runs."""

from quell.pipelines.common.dual_domain.criteria import success_checks
from quell.pipelines.common.dual_domain.disputes import disputes
from quell.pipelines.common.dual_domain.rules import rule_checks
from quell.pipelines.common.dual_domain.symptoms import recommendation, settings_of
from quell.pipelines.common.dual_domain.units import unit_checks, why_flat
from quell.pipelines.reporting.checks import MethodDiagnosis
from quell.pipelines.reporting.columns import FollowedLoss, ReportColumn
from quell.pipelines.reporting.facts import RunFacts

FOLLOWED_LOSS = FollowedLoss(
    "cross",
    note="cross start, cross end: cross loss of the first and last training log, summed over both contrasts, in units "
    "of each image's median magnitude.",
)

_LEAK_NOTE = "leak: correlation of the error with the noise of the source, of the target, or of the same path's input."

REPORT_COLUMNS = (
    ReportColumn("floor", "floor", line_label="noise floor"),
    ReportColumn(
        "cross_over_floor",
        "cross/floor",
        note="floor: the smallest cross loss that the target's own noise permits; below 0.97 of it is a leak.",
    ),
    ReportColumn("cross_over_constant", "cross/constant"),
    ReportColumn(
        "latent_spread",
        "collapse",
        note="collapse: distance between latents of different slices over their magnitude; below 0.01 the encoder "
        "gives every slice the same latent.",
    ),
    ReportColumn("matched_over_mismatched", "matched/mismatched"),
    ReportColumn("leak_source", "leak source", note=_LEAK_NOTE),
    ReportColumn("leak_target", "leak target", note=_LEAK_NOTE),
    ReportColumn("leak_same", "leak same path", note=_LEAK_NOTE),
)

_UNIT_NOTE = (
    "Losses are sums over both contrasts in units of each image's median magnitude; the documents do not state their "
    "unit."
)

_RAW_NOTE = (
    "The cross and edge losses are in stored units (pipeline.units raw), content and recon in units of the median."
)


def diagnose(facts: RunFacts) -> MethodDiagnosis:
    """Apply every rule and criterion of the documents, and decide between them where they contradict each other."""
    return MethodDiagnosis(
        checks=(*rule_checks(facts), *success_checks(facts), *unit_checks(facts)),
        disputes=(why_flat(facts), *disputes(facts)),
        notes=(_UNIT_NOTE,) if settings_of(facts).units == "median" else (_RAW_NOTE,),
        recommendation=recommendation(facts),
    )
