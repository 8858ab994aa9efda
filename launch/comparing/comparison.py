"""The comparison of several methods in one metric: every pair of them, and the ranking that follows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from quell.configs.errors import DataError
from quell.configs.metric_names import Direction, direction_of
from quell.launch.comparing.directions import compared_values, gain_sign
from quell.launch.comparing.methods import Method
from quell.launch.differences.holm import holm
from quell.launch.differences.intervals import Interval, mean_interval
from quell.launch.differences.paired_statistics import paired_difference
from quell.launch.differences.seeds import seed_test
from quell.launch.differences.units import Units

SIGNIFICANT = 0.05
RESOLUTION = 1e-5
"""Differences below this part of a metric's values are rounding, as of other batch sizes or devices: 0.0003 dB."""


@dataclass(frozen=True)
class Pair:
    """How one method compares with another, in compared values (`directions.compared_values`)."""

    first: int
    second: int
    """Positions in `Ranking.methods`."""
    differences: NDArray[np.float64]
    """First minus second in each unit, averaged over seeds, (U,)."""
    interval: Interval
    """Of the mean difference over units."""
    median: float
    wilcoxon_p: float
    """Two-sided, of the networks as they are; NaN for one unit."""
    p: float
    """What decides: of the methods, seeds included, where there are several; otherwise the Wilcoxon test."""
    test: str
    favours: int
    """Which method the statistic of that test favours: 1 the first, -1 the second, 0 none."""
    gain_sign: int
    """1 where a positive difference is an improvement, else -1."""
    failures: tuple[int, int]
    """How many images the first and the second method failed on."""
    seed_share: float | None
    """Part of the variance of the difference that the seeds cause; None where no method has several."""
    p_holm: float = math.nan
    """`p` corrected for all tests of this metric."""

    @property
    def is_significant(self) -> bool:
        """Whether the corrected test finds a difference, be it of ranks or of means."""
        return self.p_holm < SIGNIFICANT

    @property
    def agrees_with_mean(self) -> bool:
        """Whether the interval of the mean lies on the side of the method that the test favours.

        A test of ranks asks in how many images a method is better, a mean by how much. A method that gains a little on
        most images and loses much on a few has ranks and means that contradict each other, and is not better.
        """
        sign = self.favours * self.gain_sign
        return min(sign * self.interval.low, sign * self.interval.high) > 0

    @property
    def favours_failing(self) -> bool:
        """Whether the test favours a method that failed on images, which the test does not see."""
        return self.favours != 0 and self.failures[0 if self.favours > 0 else 1] > 0

    @property
    def is_distinguishable(self) -> bool:
        """Whether one method is better: the test finds it, the mean agrees, and it did not fail on any image."""
        return self.is_significant and self.agrees_with_mean and not self.favours_failing

    def reversed(self) -> "Pair":
        """The same comparison with its methods exchanged."""
        interval = replace(self.interval, mean=-self.interval.mean, low=-self.interval.high, high=-self.interval.low)
        return replace(
            self,
            first=self.second,
            second=self.first,
            differences=-self.differences,
            interval=interval,
            median=-self.median,
            favours=-self.favours,
            failures=self.failures[::-1],
        )


@dataclass(frozen=True)
class Ranked:
    """A method's place in a metric."""

    method: int
    """Position in `Ranking.methods`."""
    mean: float
    """Over units and seeds, of the values themselves."""
    std: float
    """Sample standard deviation over units, of means over seeds; 0 for one unit."""
    seed_std: float | None
    """Sample standard deviation over seeds, of means over units; None for one seed."""
    ties: tuple[int, ...]
    """Ranks, from 1, of the methods that it cannot be told from."""


@dataclass(frozen=True)
class Ranking:
    """One metric."""

    metric: str
    direction: Direction
    methods: tuple[Method, ...]
    units: Units
    keys: tuple[str, ...]
    """The samples that all methods have a finite value for."""
    left_out: tuple[str, ...]
    """Those on which no method failed, but that lack a finite value, as an index of edges does where there are none."""
    failures: tuple[tuple[str, ...], ...]
    """Of each method, the samples that it failed on; they are left out as well, but count against it."""
    places: tuple[Ranked, ...]
    """From the best."""
    pairs: tuple[Pair, ...]
    values: tuple[NDArray[np.float64], ...]
    """Of each method, (S, N), by seed and sample."""
    unit_values: tuple[NDArray[np.float64], ...]
    """The same by seed and unit, (S, U)."""

    def pair(self, first: int, second: int) -> Pair | None:
        """The comparison of two methods; None where it was not made."""
        for pair in self.pairs:
            if (pair.first, pair.second) == (first, second):
                return pair
            if (pair.second, pair.first) == (first, second):
                return pair.reversed()
        return None

    def gains(self, pair: Pair) -> tuple[int, int]:
        """In how many units the first and the second method of a pair is better."""
        gains = gain_sign(self.metric) * pair.differences
        return int((gains > 0).sum()), int((gains < 0).sum())


def rank(
    metric: str, methods: Sequence[Method], members: Sequence[str], units: Units, against: int | None = None
) -> Ranking:
    """Compare methods in one metric.

    Args:
        metric: Name of the metric.
        methods: At least two.
        members: The noisy members whose restored images count; a sample's value is their mean.
        units: The samples, and what of them is independent.
        against: Position of the method that all others are compared with; None compares every pair, which needs more
            tests and so a larger difference.

    Raises:
        DataError: No sample has a finite value of every method.
    """
    values = [method.values(metric, members, units.keys) for method in methods]
    failed = [method.failed(members, units.keys) for method in methods]
    any_failed = np.any(failed, axis=0)
    usable = np.all([np.isfinite(of_method).all(axis=0) for of_method in values], axis=0) & ~any_failed
    keys = np.array(units.keys)
    if not usable.any():
        raise DataError(_why_nothing(metric, methods, failed))
    kept, values = units.subset(usable), [of_method[:, usable] for of_method in values]
    resolution = RESOLUTION * max(float(np.abs(of_method).mean()) for of_method in values)
    unit_values = [kept.means(of_method) for of_method in values]
    by_unit = [kept.means(compared_values(metric, of_method)) for of_method in values]
    failures = [int(of_method.sum()) for of_method in failed]
    sign = gain_sign(metric)
    order = sorted(range(len(methods)), key=lambda i: (failures[i], -sign * float(by_unit[i].mean())))
    others = order if against is None else [i for i in order if i != against]
    couples = list(combinations(order, 2)) if against is None else [(against, i) for i in others]
    compared = [_Compared(*of_method) for of_method in zip(methods, by_unit, failures, strict=True)]
    pairs = _corrected([_pair(i, j, compared, sign, resolution) for i, j in couples])
    return Ranking(
        metric,
        direction_of(metric),
        tuple(methods),
        kept,
        keys=tuple(keys[usable].tolist()),
        left_out=tuple(keys[~usable & ~any_failed].tolist()),
        failures=tuple(tuple(keys[of_method].tolist()) for of_method in failed),
        places=tuple(_place(i, order, unit_values, pairs) for i in order),
        pairs=tuple(pairs),
        values=tuple(values),
        unit_values=tuple(unit_values),
    )


@dataclass(frozen=True)
class _Compared:
    """What a pair is made of."""

    method: Method
    by_unit: NDArray[np.float64]
    """Compared values, (S, U)."""
    failures: int


def _why_nothing(metric: str, methods: Sequence[Method], failed: Sequence[NDArray[np.bool_]]) -> str:
    """The error where no sample is left, with the method that is to blame if there is one."""
    for method, of_method in zip(methods, failed, strict=True):
        if of_method.all():
            return f"{method.name} failed on all images (its values are infinitely bad): leave it out of the comparison"
    return f"no image has a finite {metric} from every method: compare other metrics or fewer methods"


def _pair(i: int, j: int, compared: Sequence[_Compared], sign: int, resolution: float) -> Pair:
    """Compare two methods by their values in independent units; a smaller difference than the resolution is none."""
    first, second = compared[i], compared[j]
    exact = first.by_unit.mean(axis=0) - second.by_unit.mean(axis=0)
    both = np.where(np.abs(exact) > resolution, exact, 0.0)
    paired = paired_difference(both, np.zeros_like(both))
    failures = first.failures, second.failures
    if len(first.by_unit) > 1 or len(second.by_unit) > 1:
        trained = first.method.is_trained, second.method.is_trained
        tested = seed_test(first.by_unit, second.by_unit, trained=trained)
        interval, p, test, share = tested.interval, tested.p, "t, seeds and images", tested.seed_share
        favours = sign * int(np.sign(interval.mean))
    else:
        interval, p, test, share = mean_interval(both), paired.p, "Wilcoxon signed-rank", None
        favours = sign * paired.sign
    return Pair(i, j, both, interval, paired.median, paired.p, p, test, favours, sign, failures, share)


def _corrected(pairs: list[Pair]) -> list[Pair]:
    """The pairs with their p values corrected for one another."""
    adjusted = holm([pair.p for pair in pairs])
    return [replace(pair, p_holm=p) for pair, p in zip(pairs, adjusted, strict=True)]


def _place(i: int, order: list[int], unit_values: Sequence[NDArray[np.float64]], pairs: Sequence[Pair]) -> Ranked:
    """A method's summary; `order` lists the methods from the best."""
    values_SU = unit_values[i]
    of_units, of_seeds = values_SU.mean(axis=0), values_SU.mean(axis=1)
    ties = [
        order.index(pair.second if pair.first == i else pair.first) + 1
        for pair in pairs
        if i in (pair.first, pair.second) and not pair.is_distinguishable
    ]
    return Ranked(
        i,
        float(values_SU.mean()),
        float(of_units.std(ddof=1)) if len(of_units) > 1 else 0.0,
        float(of_seeds.std(ddof=1)) if len(of_seeds) > 1 else None,
        tuple(sorted(ties)),
    )
