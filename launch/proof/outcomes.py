"""What a check found, how checks run one after another, and how their outcomes are printed."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["PASS", "FAIL", "SKIP"]


@dataclass(frozen=True)
class Outcome:
    """One line of the proof."""

    name: str
    status: Status
    found: str
    """The number that was measured, or why nothing was."""
    seconds: float = 0.0

    def line(self) -> str:
        """As it is printed."""
        return f"{self.status}  {self.name:<46} {self.found}  ({self.seconds:.1f} s)"


class SkippedError(Exception):
    """Raised by a check that this machine cannot make; its text is the reason."""


Check = tuple[str, Callable[[], tuple[bool, str]]]
"""The name of a check, and what makes it: whether it holds, and the number that shows it."""


def run_checks(checks: list[Check], deadline_s: float) -> Iterator[Outcome]:
    """Make the checks in order; those that have not begun `deadline_s` after the first are skipped."""
    began = time.monotonic()
    for name, check in checks:
        at = time.monotonic()
        if at - began > deadline_s:
            yield Outcome(name, "SKIP", f"the {deadline_s:.0f} s of --seconds are over")
            continue
        try:
            holds, found = check()
            status: Status = "PASS" if holds else "FAIL"
        except SkippedError as reason:
            status, found = "SKIP", str(reason)
        except Exception as error:  # of whatever kind: it is what the check is there to find
            status, found = "FAIL", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        yield Outcome(name, status, found, time.monotonic() - at)


def as_json(outcomes: list[Outcome], facts: dict[str, Any]) -> dict[str, Any]:
    """What a program reads: the facts of the machine, and every outcome."""
    return {"machine": facts, "outcomes": [asdict(outcome) for outcome in outcomes]}
