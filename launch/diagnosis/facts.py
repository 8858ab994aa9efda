"""What is known about one run: its configuration, its log, and what a probe of its networks measured."""

import itertools
import statistics
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from configs.errors import CheckpointError
from configs.schema import RunConfig
from launch.runs.folder import RunFolder
from launch.studies.results import read_events
from pipelines.reporting.checks import Finding


@dataclass(frozen=True)
class Facts:
    """Everything the checks look at."""

    config: RunConfig
    events: list[dict[str, Any]]
    summary: dict[str, Any]
    probe: dict[str, float] = field(default_factory=dict)
    """Measured on the trained networks (launch/diagnosis/probe.py); empty where that could not be done."""
    findings: list[Finding] = field(default_factory=list)
    """The method's own verdicts on the last evaluation."""

    @cached_property
    def train(self) -> list[dict[str, Any]]:
        """Training events in order."""
        return [event for event in self.events if event["event"] == "train"]

    @cached_property
    def evaluations(self) -> list[dict[str, Any]]:
        """Evaluation events in order."""
        return [event for event in self.events if event["event"] == "eval"]

    @property
    def losses(self) -> list[str]:
        """Names of the phases' total losses."""
        return [name for name in (self.train or [{}])[0] if name.startswith("loss_")]

    def series(self, name: str) -> list[float]:
        """The logged values of one name, in order; those that were not finite are left out."""
        return [event[name] for event in self.train if event.get(name) is not None]

    def first(self, name: str) -> float | None:
        """The first logged value."""
        values = self.series(name)
        return values[0] if values else None

    def end(self, name: str) -> float | None:
        """Mean of the last quarter of the logged values."""
        values = self.series(name)
        return statistics.fmean(values[-max(1, len(values) // 4) :]) if values else None

    def fall(self, name: str) -> float | None:
        """By which share a value fell from the first log to the last quarter; None for fewer than four logs.

        A value that may be negative (learned weights, Wasserstein scores) falls by a share of the size it began with.
        """
        start, end = self.first(name), self.end(name)
        if start is None or end is None or len(self.series(name)) < 4 or not start:
            return None
        return (start - end) / abs(start)

    def at_epoch(self, name: str, epoch: float) -> float | None:
        """The value logged nearest before the end of an epoch; None where the run is shorter."""
        before = [event[name] for event in self.train if event.get(name) is not None and event["epoch"] <= epoch + 1e-9]
        reached = bool(self.train) and self.train[-1]["epoch"] >= epoch - 1e-9
        return before[-1] if before and reached else None

    def roughness(self, name: str) -> float | None:
        """Standard deviation from log to log over the mean size, in the second half; None for fewer than eight logs."""
        values = self.series(name)
        half = values[len(values) // 2 :]
        size = statistics.fmean(map(abs, half)) if len(values) >= 8 else 0.0
        if not size:
            return None
        steps = [b - a for a, b in itertools.pairwise(half)]
        return statistics.pstdev(steps) / 2**0.5 / size

    def metric(self, name: str) -> float | None:
        """A mean of the last evaluation."""
        return self.evaluations[-1].get(name) if self.evaluations else None

    def mean_of(self, *names: str) -> float | None:
        """Mean of several means of the last evaluation; None unless all are there."""
        values = [self.metric(name) for name in names]
        known = [value for value in values if value is not None]
        return statistics.fmean(known) if len(known) == len(names) else None


def read(folder: RunFolder) -> Facts:
    """The facts in a run folder, without a probe. CheckpointError when nothing was trained there."""
    config = folder.config()
    events = read_events(folder.metrics_file) if Path(folder.metrics_file).is_file() else []
    facts = Facts(config, events, folder.summary())
    if not facts.train:
        raise CheckpointError(f"{folder.path} has no training log yet: train the run first")
    return facts
