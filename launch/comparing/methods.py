"""What is ranked: runs, of which those that differ only in their seed are one method, and the baselines beside them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from quell.configs.baseline_names import TITLES
from quell.configs.errors import ConfigError
from quell.configs.metric_names import can_rank, cost
from quell.launch.comparing.provenance import code_of, method_settings
from quell.launch.comparing.reports import RunReport, Values
from quell.launch.comparing.same_images import first_difference


@dataclass(frozen=True)
class Method:
    """A row of the ranking."""

    name: str
    reports: tuple[RunReport, ...]
    """One per seed; of a baseline, the one that it was measured in."""
    baseline: str | None = None
    is_named: bool = False
    """Whether the user says that these runs are one method."""

    @property
    def is_trained(self) -> bool:
        """Whether another seed would give other images."""
        return self.baseline is None

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its runs; none for a baseline."""
        return tuple(report.config.seed for report in self.reports) if self.is_trained else ()

    @property
    def checkpoint(self) -> str:
        """Which checkpoint was measured: best, last, average, or one by name; none of a baseline."""
        return " and ".join(dict.fromkeys(report.which for report in self.reports)) if self.is_trained else ""

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


def methods_of(reports: Sequence[RunReport], named: Mapping[str, Sequence[RunReport]] | None = None) -> list[Method]:
    """The methods of these runs in their order, then those that the user names, then the baselines; names are unique.

    Runs of one configuration, code and data with different seeds are one method. Where a seed comes twice, each run
    stays by itself, for nothing says which belong together.

    Args:
        reports: Of the runs.
        named: Name -> reports of the runs that the user calls one method.

    Raises:
        ConfigError: Two runs of a named method have the same seed.
    """
    named = named or {}
    by_key: dict[tuple[str, ...], list[RunReport]] = {}
    for report in reports:
        by_key.setdefault(_key(report), []).append(report)
    methods: list[Method] = []
    for runs in by_key.values():
        if len({run.config.seed for run in runs}) < len(runs):
            methods += [Method(run.name, (run,)) for run in runs]
        else:
            methods.append(Method(_name(runs), tuple(runs)))
    for name, runs_of_name in named.items():
        seeds = [report.config.seed for report in runs_of_name]
        if repeated := [seed for i, seed in enumerate(seeds) if seed in seeds[:i]]:
            raise ConfigError(f"--method {name}: two of its runs have seed {repeated[0]}: name runs of different seeds")
        methods.append(Method(name, tuple(runs_of_name), is_named=True))
    every_report = [*reports, *(report for runs in named.values() for report in runs)]
    return _unique([*methods, *_baselines(every_report)])


def doubts(methods: Sequence[Method]) -> list[str]:
    """Sentences about what might be one method and is not, or the other way round."""
    by_settings: dict[tuple[str, ...], list[Method]] = {}
    for method in methods:
        if method.is_trained and not method.is_named:
            by_settings.setdefault(_key(method.reports[0])[1:], []).append(method)
    sentences = []
    for alike in by_settings.values():
        names = " and ".join(method.name for method in alike)
        if len(alike) > 1:
            differs_in_code = len({_key(method.reports[0])[0] for method in alike}) == len(alike)
            why = "were trained with other code" if differs_in_code else "repeat a seed"
            sentences.append(
                f"{names} have the same settings but {why}, so they are methods of their own; --method NAME=RUN,RUN "
                "says which runs are one."
            )
    unknown = [
        method.name
        for method in methods
        if len(method.seeds) > 1 and not method.is_named and not all(_key(report)[0] for report in method.reports)
    ]
    if unknown:
        sentences.append(
            f"Not every run of {' and '.join(unknown)} records the code that it was trained with: its runs are taken "
            "to have the same."
        )
    return sentences


def _key(report: RunReport) -> tuple[str, ...]:
    """What two runs of one method have in common: the code first."""
    kind = report.which if report.which in ("average", "last") else "best"
    return code_of(report.run), method_settings(report.config, report.run), kind


def _baselines(reports: Sequence[RunReport]) -> list[Method]:
    """Each baseline once, or as often as it was measured with other parameters or results."""
    found: list[Method] = []
    for name in dict.fromkeys(name for report in reports for name in report.baselines):
        own = [report for report in reports if name in report.baselines]
        different: list[RunReport] = []
        for report in own:
            if not any(_same_baseline(report, other, name) for other in different):
                different.append(report)
        found += [Method(TITLES[name], (report,), name) for report in different]  # type: ignore[index]
    return found


def _same_baseline(first: RunReport, second: RunReport, name: str) -> bool:
    """Whether a baseline had the same parameters in two reports, and the same results."""
    options = [(report.content.get("baselines") or {}).get(name) for report in (first, second)]
    ours, theirs = first.baselines[name], second.baselines[name]
    return options[0] == options[1] and not any(
        first_difference(ours[member][metric], theirs[member][metric])
        for member in ours.keys() & theirs.keys()
        for metric in ours[member].keys() & theirs[member].keys()
    )


def _name(runs: Sequence[RunReport]) -> str:
    """A run's folder; of several, what their folders' names have in common, or else their configuration's name."""
    same_letters = takewhile(lambda letters: len(set(letters)) == 1, zip(*(run.name for run in runs), strict=False))
    common = "".join(letters[0] for letters in same_letters)
    return common if len(runs) == 1 else common.rstrip("-_. 0123456789") or runs[0].config.name


def _unique(methods: Sequence[Method]) -> list[Method]:
    """The methods, with what tells them apart added to names that several have."""
    names = [method.name for method in methods]
    for name in {name for name in names if names.count(name) > 1}:
        alike = [i for i, own in enumerate(names) if own == name]
        for describe in (_place, _checkpoint, _file, _path):
            described = [f"{name} ({describe(methods[i])})" for i in alike]
            if len(set(described)) == len(alike) and not set(described) & set(names):
                break
        for i, text in zip(alike, described, strict=True):
            names[i] = text
    return [replace(method, name=name) for method, name in zip(methods, names, strict=True)]


def _place(method: Method) -> str:
    """The folder of a run, or the first of several; of a baseline, the run that it was measured with."""
    report = method.reports[0]
    if method.baseline is not None:
        return f"of {report.name}"
    return f"{report.run.parent.name}/{report.name}" if len(method.reports) == 1 else f"{report.name} ..."


def _checkpoint(method: Method) -> str:
    report = method.reports[0]
    return method.checkpoint if method.is_trained else f"of {report.run.parent.name}/{report.name}"


def _file(method: Method) -> str:
    return f"{'' if method.is_trained else 'of '}{method.reports[0].file.name}"


def _path(method: Method) -> str:
    return f"{'' if method.is_trained else 'of '}{method.reports[0].file}"
