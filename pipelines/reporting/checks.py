"""Verdicts on measured values: findings during training, checks and disputes in a diagnosis."""

import math
from dataclasses import dataclass
from typing import Final, Literal

Verdict = Literal["ok", "problem", "cannot tell"]

INCONCLUSIVE: Final = "cannot tell"
"""The verdict where a value was not measured or does not decide the question."""

CheckValue = float | str | None
"""A checked value; None where it was not measured."""


@dataclass(frozen=True)
class Finding:
    """A method's verdict on one metric of an evaluation; logged as a warning unless it is ok."""

    name: str
    value: float
    threshold: float
    ok: bool
    message: str
    """One sentence: what was measured, what it means, what to do."""
    absolute: bool = False
    """The threshold bounds the absolute value."""

    @property
    def bound(self) -> str:
        """The condition that an ok value meets, such as "<= 0.3"."""
        if self.absolute:
            return f"|x| <= {self.threshold:g}"
        is_upper_bound = (self.value <= self.threshold) == self.ok
        return f"{'<=' if is_upper_bound else '>='} {self.threshold:g}"


@dataclass(frozen=True)
class Check:
    """A measured value against its threshold, with advice."""

    name: str
    value: CheckValue
    threshold: str
    """The condition that a good value meets."""
    verdict: Verdict
    advice: str
    """What the value means and what to do."""
    source: str
    """Title of the document (documents.py) the rule comes from, or "measured"."""
    group: str
    """Heading under which the check is printed."""


@dataclass(frozen=True)
class Dispute:
    """A question on which the documents contradict each other, and what this run's measurements support."""

    question: str
    claims: str
    """Which document claims what."""
    measured: str
    supports: str
    """The claim that the measurements support; begins with "cannot tell" where they support none yet."""


@dataclass(frozen=True)
class Recommendation:
    """A configuration to use instead of the diagnosed one."""

    config: str
    """Path of the YAML file."""
    text: str
    """Why: the evidence, and what to expect of the recommended configuration."""


@dataclass(frozen=True)
class MethodDiagnosis:
    """A method's own part of the diagnosis of a run."""

    checks: tuple[Check, ...] = ()
    disputes: tuple[Dispute, ...] = ()
    notes: tuple[str, ...] = ()
    recommendation: Recommendation | None = None


def check(
    name: str,
    value: CheckValue,
    threshold: str,
    is_good: bool | None,
    *,
    source: str,
    group: str,
    problem: str = "",
    ok: str = "",
    unknown: str = "not measured in this run",
) -> Check:
    """Build a check whose advice depends on its verdict.

    Args:
        name: What is checked.
        value: The measured value; one that is not finite counts as not measured.
        threshold: The condition that a good value meets, in words.
        is_good: Whether the condition is met; None gives the verdict "cannot tell".
        source: Title of the document the rule comes from.
        group: Heading under which the check is printed.
        problem: Advice if the condition is not met.
        ok: Advice if it is met.
        unknown: Advice if it cannot be decided: what is missing.
    """
    if isinstance(value, float) and not math.isfinite(value):
        value, is_good = None, None
    verdict: Verdict = INCONCLUSIVE if is_good is None else "ok" if is_good else "problem"
    advice = {"ok": ok, "problem": problem, INCONCLUSIVE: unknown}[verdict]
    return Check(name, value, threshold, verdict, advice, source, group)


def format_value(value: CheckValue) -> str:
    """Format a value for people: four significant digits, and "-" if it was not measured."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float | int) else value
