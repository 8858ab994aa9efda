"""Every success criterion that the dual-domain documents state, as checks.

The documents' numbers were forecasts. A threshold below the noise floor can only be reached by copying noise, which the
advice then points out.
"""

from typing import NamedTuple

from quell.pipelines.common.dual_domain.instruments import CORRELATED
from quell.pipelines.common.dual_domain.symptoms import COLLAPSING_CONTENT, has_noisy_targets, settings_of
from quell.pipelines.reporting.checks import Check, check
from quell.pipelines.reporting.documents import (
    EXPERIMENTS_GUIDE,
    FINAL_SOLUTION,
    NOISE_LEAKAGE,
    QUICK_REFERENCE,
    SOLUTION_SUMMARY,
    SUPERVISED_SOLUTION,
)
from quell.pipelines.reporting.facts import MAX_OSCILLATION, MIN_LOGS_FOR_FALL, MIN_LOGS_FOR_OSCILLATION, RunFacts

GROUP = "Success criteria of the documents"


class Forecast(NamedTuple):
    """A document's upper limit of a loss at an epoch."""

    document: str
    loss: str
    epoch: int
    limit: float


FORECASTS = (
    Forecast(NOISE_LEAKAGE, "cross", 10, 0.5),
    Forecast(NOISE_LEAKAGE, "cross", 20, 0.3),
    Forecast(QUICK_REFERENCE, "content", 1, 0.5),
    Forecast(QUICK_REFERENCE, "recon", 1, 1.5),
    Forecast(QUICK_REFERENCE, "cross", 1, 1.5),
    Forecast(QUICK_REFERENCE, "content", 5, 0.01),
    Forecast(QUICK_REFERENCE, "recon", 5, 1.0),
    Forecast(QUICK_REFERENCE, "cross", 5, 0.8),
    Forecast(QUICK_REFERENCE, "cross", 10, 0.5),
    Forecast(FINAL_SOLUTION, "cross", 5, 0.5),
    Forecast(FINAL_SOLUTION, "cross", 10, 0.3),
    Forecast(FINAL_SOLUTION, "cross", 20, 0.2),
)

SUPERVISED_FORECASTS = (
    Forecast(SUPERVISED_SOLUTION, "content", 10, 0.01),
    Forecast(SUPERVISED_SOLUTION, "recon", 10, 0.2),
    Forecast(SUPERVISED_SOLUTION, "cross", 10, 0.3),
    Forecast(SUPERVISED_SOLUTION, "content", 50, 0.005),
    Forecast(SUPERVISED_SOLUTION, "recon", 50, 0.08),
    Forecast(SUPERVISED_SOLUTION, "cross", 50, 0.12),
)
"""Further ones for runs that train against clean images."""

HALF = 0.5
CLEAR_FALL = 0.1
SMALL_CONTENT = 0.015
"""What "about 0.01" may be."""

NOT_LOGGED = "the run has not reached this epoch, or has no log before it"
FEW_LOGS = f"needs at least {MIN_LOGS_FOR_FALL} training logs"


def success_checks(facts: RunFacts) -> list[Check]:
    """All criteria, forecasts first."""
    forecasts = FORECASTS if has_noisy_targets(facts) else FORECASTS + SUPERVISED_FORECASTS
    return [
        *(met_forecast(facts, forecast) for forecast in forecasts),
        halved(facts),
        *falls_early(facts),
        small_content(facts),
        *keeps_falling(facts),
        smooth(facts),
        *cleaner_than_input(facts),
        uncorrelated_residual(facts),
    ]


def met_forecast(facts: RunFacts, forecast: Forecast) -> Check:
    """Whether a loss is as small at an epoch as forecast."""
    value, floor = facts.at_epoch(forecast.loss, forecast.epoch), facts.metric("floor")
    note = ""
    if forecast.loss == "cross" and floor is not None and forecast.limit < floor and has_noisy_targets(facts):
        note = f"the noise floor is {floor:.3g}: {forecast.limit} cannot be reached without copying noise"
    return check(
        f"{forecast.loss} at epoch {forecast.epoch}",
        value,
        f"<= {forecast.limit}",
        None if value is None else value <= forecast.limit,
        source=forecast.document,
        group=GROUP,
        problem=note or "not reached",
        ok=f"reached, but {note}; see the leak finding" if note else "reached",
        unknown=f"{NOT_LOGGED}; {note}" if note else NOT_LOGGED,
    )


def halved(facts: RunFacts) -> Check:
    """Whether the cross loss ends at half of its start or less."""
    fall, start, floor = facts.fall("cross"), facts.first("cross"), facts.metric("floor")
    note = ""
    if floor is not None and start and has_noisy_targets(facts):
        note = f"without copying noise it can fall by {1 - floor / start:.0%} at most here, down to the noise floor"
    return check(
        "cross falls by half",
        fall,
        f">= {HALF:.0%}",
        None if fall is None else fall >= HALF,
        source=SOLUTION_SUMMARY,
        group=GROUP,
        problem=note or "it does not",
        ok=f"it does; {note}" if note else "it does",
        unknown=FEW_LOGS,
    )


def falls_early(facts: RunFacts) -> list[Check]:
    """Whether the cross loss falls clearly within the epochs that the documents name."""
    checks, start = [], facts.first("cross")
    for document, epoch in ((NOISE_LEAKAGE, 5), (QUICK_REFERENCE, 3)):
        value = facts.at_epoch("cross", epoch)
        fall = None if value is None or not start else 1 - value / start
        checks.append(
            check(
                f"cross falls within {epoch} epochs",
                fall,
                f">= {CLEAR_FALL:.0%}",
                None if fall is None else fall >= CLEAR_FALL,
                source=document,
                group=GROUP,
                problem="no clear fall",
                ok="a clear fall",
                unknown=NOT_LOGGED,
            )
        )
    return checks


def small_content(facts: RunFacts) -> Check:
    """Whether the content loss is about 0.01, which the documents take for a shared representation."""
    content, spread = facts.final("content"), facts.metric("latent_spread")
    details = "" if spread is None else f"; latents of different slices differ by {spread:.2g} of their magnitude"
    may_be_collapse = settings_of(facts).weights.content >= COLLAPSING_CONTENT
    return check(
        "content about 0.01",
        content,
        f"<= {SMALL_CONTENT}",
        None if content is None else content <= SMALL_CONTENT,
        source=f"{NOISE_LEAKAGE}, {SOLUTION_SUMMARY}",
        group=GROUP,
        problem=f"larger{details}",
        ok=f"small, but so it is with a collapsed encoder{details}" if may_be_collapse else f"small{details}",
    )


def keeps_falling(facts: RunFacts) -> list[Check]:
    """Whether the terms that should keep falling do: reconstruction, and edges if they are trained."""
    terms = ["recon", "edge"] if settings_of(facts).weights.edge else ["recon"]
    checks = []
    for term in terms:
        fall = facts.fall(term)
        checks.append(
            check(
                f"{term} falls",
                fall,
                "> 0",
                None if fall is None else fall > 0,
                source=SOLUTION_SUMMARY,
                group=GROUP,
                problem="it does not",
                ok="it does",
                unknown=FEW_LOGS,
            )
        )
    return checks


def smooth(facts: RunFacts) -> Check:
    """Whether the curve of the cross loss is smooth."""
    oscillation = facts.oscillation("cross")
    return check(
        "smooth cross curve",
        oscillation,
        f"<= {MAX_OSCILLATION}",
        None if oscillation is None else oscillation <= MAX_OSCILLATION,
        source=SOLUTION_SUMMARY,
        group=GROUP,
        problem="it oscillates",
        ok="smooth",
        unknown=f"needs at least {MIN_LOGS_FOR_OSCILLATION} training logs",
    )


def cleaner_than_input(facts: RunFacts) -> list[Check]:
    """Whether the restored images are cleaner than the noisy ones, by PSNR and by SSIM."""
    checks = []
    for metric in ("psnr", "ssim"):
        gain = facts.gain(metric)
        checks.append(
            check(
                f"{metric.upper()} over noisy",
                gain,
                "> 0",
                None if gain is None else gain > 0,
                source=f"{NOISE_LEAKAGE}, {SOLUTION_SUMMARY}, {EXPERIMENTS_GUIDE}",
                group=GROUP,
                problem="not cleaner than the input",
                ok="cleaner than the input",
                unknown="needs clean images, or second noisy ones, to compare with",
            )
        )
    return checks


def uncorrelated_residual(facts: RunFacts) -> Check:
    """Whether the cross path's error is free of the source's noise."""
    correlation = facts.metric("leak_source")
    return check(
        "residual free of source noise",
        correlation,
        f"|x| <= {CORRELATED}",
        None if correlation is None else abs(correlation) <= CORRELATED,
        source=NOISE_LEAKAGE,
        group=GROUP,
        problem="the result contains the source's noise",
        ok="uncorrelated",
        unknown="needs clean images",
    )
