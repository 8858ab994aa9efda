"""What a diagnosis consists of: checks of measured values with a verdict and advice, and disputes between documents.

Sources are the documents the dual-domain configurations came with: 000 (noise-leakage configurations), 001 (quick
reference), 002 (solution summary), 003 (the Spectroformer loss report); `measured` is this project's own instruments
(docs/dual_domain.md).
"""

import math
import textwrap
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["ok", "problem", "cannot tell"]

RECOMMENDED = "configs/cross_guided.yaml"
"""The recipe that works where the dual-domain ones collapse, leak or stay flat."""

BROKEN = ("collapse", "leak", "leak_target", "leak_source", "flat")
"""Measured findings that a change of loss weights does not mend for good."""

WIDTH = 118


@dataclass(frozen=True)
class Check:
    """One measured value against its threshold."""

    name: str
    value: float | str | None
    """None where it was not measured."""
    threshold: str
    verdict: Verdict
    advice: str
    """What it means and what to do."""
    source: str
    group: str


@dataclass(frozen=True)
class Dispute:
    """Two documents that say different things, and what this run says."""

    question: str
    claims: str
    """Who says what."""
    measured: str
    supports: str
    """The claim that the measured numbers support, or `cannot tell`."""


def check(
    name: str,
    value: float | str | None,
    threshold: str,
    good: bool | None,
    *,
    source: str,
    group: str,
    problem: str = "",
    ok: str = "",
    unknown: str = "not measured in this run",
) -> Check:
    """A check whose advice depends on the verdict; `good` None means that it cannot be told."""
    if isinstance(value, float) and not math.isfinite(value):
        value, good = None, None
    verdict: Verdict = "cannot tell" if good is None else "ok" if good else "problem"
    advice = {"ok": ok, "problem": problem, "cannot tell": unknown}[verdict]
    return Check(name, value, threshold, verdict, advice, source, group)


def shown(value: float | str | None) -> str:
    """A value as people read it."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float | int) else value


def as_text(checks: list[Check], disputes: list[Dispute], notes: list[str]) -> str:
    """The diagnosis for a terminal."""
    lines: list[str] = []
    for group in dict.fromkeys(one.group for one in checks):
        lines += ["", group, "-" * len(group)]
        for one in (one for one in checks if one.group == group):
            lines.append(f"{one.verdict:<12} {one.name:<38} {shown(one.value):>22}   {one.threshold}   [{one.source}]")
            lines += _wrapped(one.advice, " " * 13)
    if disputes:
        title = "Where the documents disagree"
        lines += ["", title, "-" * len(title)]
        for dispute in disputes:
            said = (dispute.claims, f"measured: {dispute.measured}", f"supports: {dispute.supports}")
            lines += [dispute.question, *(line for text in said for line in _wrapped(text, "    "))]
    problems = sum(one.verdict == "problem" for one in checks)
    unknown = sum(one.verdict == "cannot tell" for one in checks)
    lines += ["", f"{problems} problems, {unknown} that cannot be told, {len(checks)} checks"]
    return "\n".join([*lines, *(line for note in notes for line in textwrap.wrap(note, WIDTH))]).lstrip("\n") + "\n"


def recommendation(checks: list[Check]) -> str | None:
    """A sentence with the evidence and the recipe to use instead, where the run collapsed, leaks or is flat."""
    found = [one for one in checks if one.name in BROKEN and one.verdict == "problem"]
    if not found:
        return None
    evidence = ", ".join(f"{one.name} {shown(one.value)} ({one.threshold})" for one in found)
    return (
        f"Recommended instead: {RECOMMENDED}, which restores both contrasts from noisy pairs without this "
        f"(docs/dual_domain.md). Evidence here: {evidence}."
    )


def as_json(checks: list[Check], disputes: list[Dispute], facts: dict[str, Any]) -> dict[str, Any]:
    """The diagnosis for a program."""
    return {
        **facts,
        "problems": [one.name for one in checks if one.verdict == "problem"],
        "recommended": RECOMMENDED if recommendation(checks) else None,
        "checks": [asdict(one) for one in checks],
        "disputes": [asdict(one) for one in disputes],
    }


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
