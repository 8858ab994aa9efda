"""From a run folder to its diagnosis: train for a while if there is no run yet, measure, check."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from configs import loader
from configs.errors import CheckpointError, ConfigError, DataError, DivergedError, MachineError
from configs.support.atomic_files import write_atomically
from launch.diagnosis import checks, facts, probe
from launch.diagnosis.checks import Check, Dispute
from launch.diagnosis.disputes import disputes
from launch.diagnosis.dual import dual_checks
from launch.diagnosis.facts import Facts
from launch.diagnosis.success import success_checks
from launch.diagnosis.training import training_checks
from launch.runs.folder import RunFolder
from launch.training import run

LOGS, EVALUATIONS = 24, 3
"""How often a run that is made for its diagnosis logs and measures."""

DUAL = "dual_domain"


@dataclass(frozen=True)
class Diagnosis:
    """What was found in one run."""

    folder: Path
    facts: Facts
    checks: list[Check]
    disputes: list[Dispute]
    notes: list[str]

    @property
    def problems(self) -> list[str]:
        """Names of the checks that failed."""
        return [one.name for one in self.checks if one.verdict == "problem"]

    def text(self) -> str:
        """For a terminal."""
        recommended = checks.recommendation(self.checks)
        title = f"{self.facts.config.name}, step {self.facts.train[-1]['step']}"
        body = checks.as_text(self.checks, self.disputes, [*self.notes, *([recommended] if recommended else [])])
        return f"\n{title}\n{'=' * len(title)}\n{body}"

    def write(self, path: Path) -> None:
        """As JSON. MachineError when the place cannot be written."""
        about: dict[str, Any] = {
            "run": str(self.folder),
            "name": self.facts.config.name,
            "method": self.facts.config.pipeline.name,
            "step": self.facts.train[-1]["step"],
            "notes": self.notes,
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(checks.as_json(self.checks, self.disputes, about), indent=1) + "\n")
        except OSError as error:
            raise MachineError(f"cannot write {path} ({error.strerror}): choose another --output") from error


def train(config: str | Path, overrides: list[str], folder: Path, *, steps: int) -> None:
    """Train so many steps, logging and measuring often enough to be diagnosed; a run that diverges is kept as it is."""
    if steps < 1:
        raise ConfigError(f"--steps {steps}: give 1 or more")
    often = [
        f"loop.max_steps={steps}",
        "loop.epochs=null",
        f"tracking.log_every={max(1, steps // LOGS)}",
        "tracking.tensorboard=false",
        f"evaluation.every_steps={math.ceil(steps / EVALUATIONS)}",
        "evaluation.every_epochs=null",
    ]
    try:
        run.train(loader.load(config, [*often, *overrides]), folder)
    except DivergedError as error:
        print(f"training diverged: {error}", flush=True)


def look(folder: Path) -> Diagnosis:
    """The diagnosis of a run folder. CheckpointError when nothing was trained there."""
    known = facts.read(RunFolder(folder))
    notes = []
    metrics = {name: value for name, value in (known.evaluations or [{}])[-1].items() if isinstance(value, float)}
    try:
        measured, findings = probe.probe(folder, metrics)
        known = replace(known, probe=measured, findings=findings)
    except (CheckpointError, DataError) as error:
        notes.append(f"Networks and data were not looked at: {error}")
    found, disputed = training_checks(known), []
    if known.config.pipeline.name == DUAL:
        found += [*dual_checks(known), *success_checks(known)]
        disputed = disputes(known)
        notes.append(
            "Losses are sums over both contrasts in units of each image's median magnitude; the documents do "
            "not state their unit."
        )
    return Diagnosis(folder, known, found, disputed, notes)
