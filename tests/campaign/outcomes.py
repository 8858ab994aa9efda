"""What became of an attempt, and the table of a campaign."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Outcome(Enum):
    """How the program bore a fault."""

    SURVIVED = "survived"
    """It went on, and the result is that of an undisturbed run, bit for bit."""
    REFUSED = "refused by name"
    """It stopped with one sentence and an exit code of its own."""
    SILENT = "silently different"
    """It went on with a different result."""
    CRASHED = "traceback"
    """It ended in an exception that no sentence explains."""
    HUNG = "hung"
    """It did not end."""


BAD = (Outcome.SILENT, Outcome.CRASHED, Outcome.HUNG)
"""Outcomes that no fault may have."""

ENDED_BY_NAME = (2, 3, 4, 5, 6)
"""Exit codes of errors that one sentence explains (configs/errors.py)."""


@dataclass
class Tally:
    """Counts of outcomes by fault, and how to repeat the bad ones."""

    counts: dict[str, dict[Outcome, int]] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)

    def add(self, fault: str, outcome: Outcome, note: str) -> None:
        """Count an attempt; `note` says what was done, and is kept if the outcome is bad."""
        self.counts.setdefault(fault, dict.fromkeys(Outcome, 0))[outcome] += 1
        if outcome in BAD:
            self.bad.append(f"{fault}: {outcome.value}: {note}")

    def table(self, describe: Mapping[str, str]) -> str:
        """The counts in Markdown, one row per fault."""
        head = ["fault", "tried", *(outcome.value for outcome in Outcome)]
        rows = [head, ["---"] * len(head)]
        for fault, counts in self.counts.items():
            rows.append([describe.get(fault, fault), str(sum(counts.values())), *map(str, counts.values())])
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def of_code(code: int, *, right: bool) -> Outcome:
    """The outcome of a process that ended with a code, given whether its result is right."""
    if code == 0:
        return Outcome.SURVIVED if right else Outcome.SILENT
    if code < 0:
        return Outcome.HUNG
    return Outcome.REFUSED if code in ENDED_BY_NAME else Outcome.CRASHED
