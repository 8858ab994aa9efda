"""Every success criterion the dual-domain documents state, as checks.

The documents' numbers were forecasts; a threshold below the noise floor can only be reached by copying noise, and is
reported so.
"""

from launch.diagnosis.checks import Check, check
from launch.diagnosis.dual import COLLAPSING
from launch.diagnosis.facts import Facts
from launch.diagnosis.training import ROUGH
from pipelines.common.dual_domain.instruments import CORRELATED

GROUP = "Success by the documents"

AT_EPOCH = (
    ("000", "cross", 10, 0.5),
    ("000", "cross", 20, 0.3),
    ("001", "content", 1, 0.5),
    ("001", "recon", 1, 1.5),
    ("001", "cross", 1, 1.5),
    ("001", "content", 5, 0.01),
    ("001", "recon", 5, 1.0),
    ("001", "cross", 5, 0.8),
    ("001", "cross", 10, 0.5),
    ("FINAL_SOLUTION", "cross", 5, 0.5),
    ("FINAL_SOLUTION", "cross", 10, 0.3),
    ("FINAL_SOLUTION", "cross", 20, 0.2),
)
"""(document, loss, epoch, highest value)."""

SUPERVISED_AT_EPOCH = (
    ("SOLUTION_SUPERVISED", "content", 10, 0.01),
    ("SOLUTION_SUPERVISED", "recon", 10, 0.2),
    ("SOLUTION_SUPERVISED", "cross", 10, 0.3),
    ("SOLUTION_SUPERVISED", "content", 50, 0.005),
    ("SOLUTION_SUPERVISED", "recon", 50, 0.08),
    ("SOLUTION_SUPERVISED", "cross", 50, 0.12),
)
"""The same for runs that learn from clean images."""

NOT_LOGGED = "the run is shorter, or was not logged by then"

HALVED = 0.5
CLEARLY = 0.1
"""What counts as a clear fall."""


def success_checks(facts: Facts) -> list[Check]:
    """All criteria; those at an epoch the run did not reach cannot be told."""
    clean = getattr(facts.config.pipeline, "targets", "noisy") == "clean"
    table = AT_EPOCH + (SUPERVISED_AT_EPOCH if clean else ())
    return [
        *(at_epoch(facts, *row) for row in table),
        halved(facts),
        *starts_falling(facts),
        content_small(facts),
        *falling(facts),
        smooth(facts),
        *cleaner(facts),
        uncorrelated(facts),
    ]


def at_epoch(facts: Facts, source: str, loss: str, epoch: int, limit: float) -> Check:
    """One loss at one epoch."""
    value = facts.at_epoch(loss, epoch)
    floor = facts.metric("floor")
    buried = loss == "cross" and floor is not None and limit < floor and _noisy_targets(facts)
    note = f"the noise floor is {floor:.3g}: {limit} cannot be reached without copying noise" if buried else ""
    good = None if value is None else value <= limit
    return check(
        f"{loss} at epoch {epoch}",
        value,
        f"<= {limit}",
        good,
        source=source,
        group=GROUP,
        problem=note or "not reached",
        ok=(note and f"reached, but {note}: see the leak finding") or "reached",
        unknown=f"{NOT_LOGGED}{'; ' + note if note else ''}",
    )


def halved(facts: Facts) -> Check:
    """The cross loss at the end against its start."""
    fall, start, floor = facts.fall("cross"), facts.first("cross"), facts.metric("floor")
    best = None if floor is None or not start or not _noisy_targets(facts) else 1 - floor / start
    note = "" if best is None else f"an honest model can fall by {best:.0%} at most here, to the noise floor"
    return check(
        "cross falls by half",
        fall,
        f">= {HALVED:.0%}",
        None if fall is None else fall >= HALVED,
        source="002",
        group=GROUP,
        problem=note or "it did not",
        ok=f"it did; {note}" if note else "it did",
        unknown="needs four training logs",
    )


def starts_falling(facts: Facts) -> list[Check]:
    """Whether the cross loss falls clearly within the epochs the documents name."""
    start, found = facts.first("cross"), []
    for source, epoch in (("000", 5), ("001", 3)):
        value = facts.at_epoch("cross", epoch)
        fall = None if value is None or not start else 1 - value / start
        found.append(
            check(
                f"cross falls within {epoch} epochs",
                fall,
                f">= {CLEARLY:.0%}",
                None if fall is None else fall >= CLEARLY,
                source=source,
                group=GROUP,
                problem="no clear fall",
                ok="a clear fall",
                unknown=NOT_LOGGED,
            )
        )
    return found


def content_small(facts: Facts) -> Check:
    """The content loss near 0.01, which the documents read as a shared representation."""
    content, weight = facts.end("content"), facts.config.pipeline.weights.content  # type: ignore[attr-defined]
    spread = facts.metric("latent_spread")
    beside = "" if spread is None else f"; latents of different slices differ by {spread:.2g} of their size"
    warning = " a collapsed encoder has it too" if weight >= COLLAPSING else ""
    return check(
        "content about 0.01",
        content,
        "<= 0.015",
        None if content is None else content <= 0.015,
        source="000, 002",
        group=GROUP,
        problem=f"larger{beside}",
        ok=f"small, but{warning}{beside}" if warning else f"small{beside}",
    )


def falling(facts: Facts) -> list[Check]:
    """Terms that must fall all along: reconstruction, and edges where they are trained."""
    terms = ["recon"] + (["edge"] if facts.config.pipeline.weights.edge else [])  # type: ignore[attr-defined]
    return [
        check(
            f"{name} falls",
            facts.fall(name),
            "> 0",
            None if facts.fall(name) is None else (facts.fall(name) or 0) > 0,
            source="002",
            group=GROUP,
            problem="it does not",
            ok="it does",
            unknown="needs four training logs",
        )
        for name in terms
    ]


def smooth(facts: Facts) -> Check:
    """Smooth curves."""
    rough = facts.roughness("cross")
    return check(
        "smooth cross curve",
        rough,
        f"<= {ROUGH}",
        None if rough is None else rough <= ROUGH,
        source="002",
        group=GROUP,
        problem="it oscillates",
        ok="smooth",
        unknown="needs eight training logs",
    )


def cleaner(facts: Facts) -> list[Check]:
    """The output is clearly cleaner than the input, by PSNR and SSIM."""
    found = []
    for metric in ("psnr", "ssim"):
        made, noisy = facts.metric(metric), facts.metric(f"noisy_{metric}")
        gain = None if made is None or noisy is None else made - noisy
        found.append(
            check(
                f"{metric.upper()} over noisy",
                gain,
                "> 0",
                None if gain is None else gain > 0,
                source="000, 002, EXPERIMENTS",
                group=GROUP,
                problem="not cleaner than the input",
                ok="cleaner than the input",
                unknown="no clean or second noisy images to compare with",
            )
        )
    return found


def uncorrelated(facts: Facts) -> Check:
    """No pattern of the source's noise in the cross path."""
    value = facts.metric("leak_source")
    return check(
        "residual free of source noise",
        value,
        f"|x| <= {CORRELATED}",
        None if value is None else abs(value) <= CORRELATED,
        source="000",
        group=GROUP,
        problem="the source's noise is in the result",
        ok="uncorrelated",
        unknown="needs clean images",
    )


def _noisy_targets(facts: Facts) -> bool:
    return getattr(facts.config.pipeline, "targets", "noisy") == "noisy"
