"""The facts about a run that the rules of a diagnosis judge."""

import itertools
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from quell.configs.schema import RunConfig
from quell.configs.support.json_files import Record
from quell.losses.noise.model import NoiseModel
from quell.pipelines.reporting.assumed_noise import AssumedNoise
from quell.pipelines.reporting.checks import Finding

MAX_OSCILLATION = 0.25
"""`RunFacts.oscillation` above which a loss curve counts as unstable."""

MIN_FALL = 0.03
"""`RunFacts.fall` below which a loss curve counts as flat."""

MIN_LOGS_FOR_FALL, MIN_LOGS_FOR_OSCILLATION = 4, 8

EPOCH_TOLERANCE = 1e-9
"""Logged epochs are quotients of steps, so that a whole epoch may be off by a rounding error."""


@dataclass(frozen=True)
class RunFacts:
    """A run's configuration and log, and what was measured on its trained networks."""

    config: RunConfig
    events: list[Record]
    """The lines of metrics.jsonl."""
    summary: Record
    """summary.json; empty while the run has not written one."""
    probe: dict[str, float] = field(default_factory=dict)
    """Measured on the trained networks (launch/diagnosis/probe.py); empty where that was not possible."""
    findings: list[Finding] = field(default_factory=list)
    """The method's own findings on the last evaluation."""
    noise: NoiseModel | None = None
    """The noise of the training images; None where it could not be estimated."""
    assumed_noise: Mapping[str, AssumedNoise] = field(default_factory=dict)
    """Field -> what the method took its noise for, where a setting says."""

    @cached_property
    def train_events(self) -> list[Record]:
        """Training events in order."""
        return [event for event in self.events if event["event"] == "train"]

    @cached_property
    def eval_events(self) -> list[Record]:
        """Evaluation events in order."""
        return [event for event in self.events if event["event"] == "eval"]

    @property
    def phase_losses(self) -> list[str]:
        """Names of the total losses, one per phase."""
        return [name for name in (self.train_events or [{}])[0] if name.startswith("loss_")]

    def series(self, name: str) -> list[float]:
        """The logged values of a name in order, without those that were not finite (logged as null)."""
        return [event[name] for event in self.train_events if event.get(name) is not None]

    def first(self, name: str) -> float | None:
        """The first logged value."""
        values = self.series(name)
        return values[0] if values else None

    def final(self, name: str) -> float | None:
        """Mean of the last quarter of the logged values."""
        values = self.series(name)
        return statistics.fmean(values[-max(1, len(values) // 4) :]) if values else None

    def fall(self, name: str) -> float | None:
        """Relative fall of a value from the first log to the mean of the last quarter; None for fewer than four logs.

        Relative to the magnitude of the first value: some losses are negative (learned weights, Wasserstein scores).
        """
        start, end = self.first(name), self.final(name)
        if start is None or end is None or len(self.series(name)) < MIN_LOGS_FOR_FALL or not start:
            return None
        return (start - end) / abs(start)

    def at_epoch(self, name: str, epoch: float) -> float | None:
        """The last value logged up to the end of an epoch; None if the run has not reached it."""
        end = epoch + EPOCH_TOLERANCE
        values = [event[name] for event in self.train_events if event.get(name) is not None and _epoch(event) <= end]
        is_reached = bool(self.train_events) and _epoch(self.train_events[-1]) >= epoch - EPOCH_TOLERANCE
        return values[-1] if values and is_reached else None

    def oscillation(self, name: str) -> float | None:
        """Standard deviation between successive logs over the mean magnitude, in the second half of the run.

        The differences of neighbours are used so that a steady fall does not count; None for fewer than eight logs.
        """
        values = self.series(name)
        half = values[len(values) // 2 :]
        magnitude = statistics.fmean(map(abs, half)) if len(values) >= MIN_LOGS_FOR_OSCILLATION else 0.0
        if not magnitude:
            return None
        differences = [after - before for before, after in itertools.pairwise(half)]
        return statistics.pstdev(differences) / 2**0.5 / magnitude  # a difference of two has twice the variance

    def metric(self, name: str) -> float | None:
        """A metric of the last evaluation."""
        value: float | None = self.eval_events[-1].get(name) if self.eval_events else None
        return value

    def gain(self, name: str = "psnr", *, outputs: tuple[str, ...] = ()) -> float | None:
        """By how much a metric of the restored images exceeds that of the noisy ones; None if not measured.

        Args:
            name: The metric.
            outputs: Average over these outputs, of which all must have been measured; by default, the headline metric.
        """
        prefixes = [f"{output}/" for output in outputs] or [""]
        restored = [self.metric(f"{prefix}{name}") for prefix in prefixes]
        noisy = [self.metric(f"{prefix}noisy_{name}") for prefix in prefixes]
        pairs = [(r, n) for r, n in zip(restored, noisy, strict=True) if r is not None and n is not None]
        if len(pairs) < len(prefixes):
            return None
        return statistics.fmean(r for r, _ in pairs) - statistics.fmean(n for _, n in pairs)


def _epoch(event: Record) -> float:
    """The epoch of a training event; infinity where a damaged line has lost it."""
    value = event.get("epoch")
    return math.inf if value is None else float(value)
