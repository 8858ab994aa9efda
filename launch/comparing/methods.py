"""What is ranked: runs, of which those that differ only in their seed are one method, and the baselines beside them."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from quell.configs.baseline_names import TITLES
from quell.configs.metric_names import can_rank, cost
from quell.configs.schema import RunConfig
from quell.launch.comparing.reports import RunReport, Values

IRRELEVANT = {
    "": ("name", "seed", "tracking", "profile", "checkpoint"),
    "data": ("cache", "eval_batch_size", "prefetch", "threads", "verify"),
    "loop": ("threads",),
    "evaluation": ("images", "limit", "blind_checks"),
}
"""Section -> keys in which two runs of one method may differ. (What is measured is compared by itself.)"""


@dataclass(frozen=True)
class Method:
    """A row of the ranking."""

    name: str
    reports: tuple[RunReport, ...]
    """One per seed; of a baseline, the one that it was measured in."""
    baseline: str | None = None

    @property
    def is_trained(self) -> bool:
        """Whether another seed would give other images."""
        return self.baseline is None

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its runs; none for a baseline."""
        return tuple(report.config.seed for report in self.reports) if self.is_trained else ()

    def metrics(self, members: Sequence[str]) -> list[str]:
        """The metrics that all its reports hold for these noisy members."""
        tables = [table.get(member, {}) for table in self.tables() for member in members]
        return [name for name in tables[0] if all(name in table for table in tables)]

    def values(self, metric: str, members: Sequence[str], keys: Sequence[str]) -> NDArray[np.float64]:
        """Values by seed and sample, (S, N), each the mean over the noisy members; NaN where one is missing."""
        return np.array(
            [
                [np.mean([table[member][metric].get(key, np.nan) for member in members]) for key in keys]
                for table in self.tables()
            ]
        )

    def failed(self, members: Sequence[str], keys: Sequence[str]) -> NDArray[np.bool_]:
        """Which samples the method failed on with any seed: a metric is as bad as it can be, which is infinite, (N,).

        That is how the metrics score images that are not finite, so whatever is asked for, all metrics are looked at.
        """
        measured = [
            (metric, values)
            for table in self.tables()
            for member in members
            for metric, values in table.get(member, {}).items()
            if can_rank(metric)
        ]
        return np.array([any(cost(metric, of.get(key, 0.0)) == math.inf for metric, of in measured) for key in keys])

    def tables(self) -> list[dict[str, Values]]:
        """Noisy member -> values, of each of its reports."""
        if self.baseline is None:
            return [report.restored for report in self.reports]
        return [report.baselines[self.baseline] for report in self.reports]


def methods_of(reports: Sequence[RunReport]) -> list[Method]:
    """The methods of these runs in their order, then the baselines; names are unique.

    Runs of one configuration with different seeds are one method. Where a seed comes twice, as before and after a
    change of the code, each run stays by itself.
    """
    by_settings: dict[str, list[RunReport]] = {}
    for report in reports:
        by_settings.setdefault(settings(report.config), []).append(report)
    methods: list[Method] = []
    for runs in by_settings.values():
        if len({run.config.seed for run in runs}) < len(runs):
            methods += [Method(run.name, (run,)) for run in runs]
        else:
            methods.append(Method(_name(runs), tuple(runs)))
    counts = Counter(method.name for method in methods)
    methods = [
        method if counts[method.name] == 1 else Method(f"{method.name} ({_place(method)})", method.reports)
        for method in methods
    ]
    found: dict[str, RunReport] = {}
    for report in reports:
        for baseline in report.baselines:
            found.setdefault(baseline, report)
    return [*methods, *(Method(TITLES[name], (report,), name) for name, report in found.items())]  # type: ignore[index]


def settings(config: RunConfig) -> str:
    """The part of a configuration that makes a method, as text: all but `IRRELEVANT`."""
    content = config.model_dump(mode="json")
    for section, keys in IRRELEVANT.items():
        part = content[section] if section else content
        for key in keys:
            del part[key]
    return json.dumps(content, sort_keys=True)


def _name(runs: Sequence[RunReport]) -> str:
    """A run's folder; of several, what their folders' names have in common, or else their configuration's name."""
    same_letters = takewhile(lambda letters: len(set(letters)) == 1, zip(*(run.name for run in runs), strict=False))
    common = "".join(letters[0] for letters in same_letters)
    return common if len(runs) == 1 else common.rstrip("-_. 0123456789") or runs[0].config.name


def _place(method: Method) -> str:
    """What tells a method from another of the same name: its folder, or its first run."""
    run = method.reports[0].file.parent
    return f"{run.parent.name}/{run.name}" if len(method.reports) == 1 else f"{run.name} ..."
