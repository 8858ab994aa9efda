"""The diagnosis of a run, as text for a terminal and as JSON."""

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from quell.configs.errors import MachineError
from quell.configs.support.atomic_files import write_atomically
from quell.configs.support.json_files import Record
from quell.launch.diagnosis import step_report
from quell.launch.diagnosis.steps import Steps
from quell.pipelines.reporting.checks import INCONCLUSIVE, Check, Dispute, Recommendation, format_value
from quell.pipelines.reporting.facts import RunFacts

LINE_WIDTH = 118


@dataclass(frozen=True)
class Diagnosis:
    """The checks of a run, generic ones first, and what its method adds to them."""

    folder: Path
    facts: RunFacts
    checks: list[Check]
    disputes: list[Dispute]
    notes: list[str]
    recommendation: Recommendation | None = None
    steps: Steps | None = None
    """Single steps; None where networks or data could not be examined."""

    @property
    def problems(self) -> list[str]:
        """Names of the failed checks."""
        return [check.name for check in self.checks if check.verdict == "problem"]

    def text(self) -> str:
        """Render the diagnosis for a terminal."""
        title = f"{self.facts.config.name}, step {self.facts.train_events[-1]['step']}"
        inconclusive = sum(check.verdict == INCONCLUSIVE for check in self.checks)
        problems = f"{len(self.problems)} problem{'' if len(self.problems) == 1 else 's'}"
        summary = f"{problems}, {inconclusive} inconclusive, {len(self.checks)} checks"
        remarks = [*self.notes, *([self.recommendation.text] if self.recommendation else [])]
        lines = [
            *_heading("Steps"),
            *step_report.lines(self.facts.train_events, self.steps),
            *_check_lines(self.checks),
            *_dispute_lines(self.disputes),
            "",
            summary,
            *(line for remark in remarks for line in textwrap.wrap(remark, LINE_WIDTH)),
        ]
        body = "\n".join(lines).lstrip("\n")
        return f"\n{title}\n{'=' * len(title)}\n{body}\n"

    def as_json(self) -> Record:
        """The content of the JSON file."""
        return {
            "run": str(self.folder),
            "name": self.facts.config.name,
            "method": self.facts.config.pipeline.name,
            "step": self.facts.train_events[-1]["step"],
            "notes": self.notes,
            "steps": step_report.as_json(self.facts.train_events, self.steps),
            "problems": self.problems,
            "recommended": self.recommendation.config if self.recommendation else None,
            "checks": [asdict(check) for check in self.checks],
            "disputes": [asdict(dispute) for dispute in self.disputes],
        }

    def write(self, path: Path) -> None:
        """Write the JSON file.

        Raises:
            MachineError: The file cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(self.as_json(), indent=1) + "\n")
        except OSError as error:
            raise MachineError(f"cannot write {path} ({error.strerror}): choose another --output") from error


def _check_lines(checks: Sequence[Check]) -> list[str]:
    """The checks under the headings of their groups."""
    lines: list[str] = []
    for group in dict.fromkeys(check.group for check in checks):
        lines += _heading(group)
        for check in (check for check in checks if check.group == group):
            value = format_value(check.value)
            lines.append(f"{check.verdict:<12} {check.name:<38} {value:>22}   {check.threshold}   [{check.source}]")
            lines += _wrapped(check.advice, " " * 13)
    return lines


def _dispute_lines(disputes: Sequence[Dispute]) -> list[str]:
    lines = _heading("Where the documents disagree") if disputes else []
    for dispute in disputes:
        answers = (dispute.claims, f"measured: {dispute.measured}", f"supports: {dispute.supports}")
        lines += [dispute.question, *(line for answer in answers for line in _wrapped(answer, " " * 4))]
    return lines


def _heading(title: str) -> list[str]:
    return ["", title, "-" * len(title)]


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, LINE_WIDTH, initial_indent=indent, subsequent_indent=indent)
