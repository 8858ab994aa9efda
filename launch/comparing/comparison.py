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
    sign: int
    """Which way the statistic of that test points: 1 where the first method's values are larger, -1, or 0."""
    seed_share: float | None
    """Part of the variance of the difference that the seeds cause; None where no method has several."""
    p_holm: float = math.nan
    """`p` corrected for all tests of this metric."""

    @property
    def is_significant(self) -> bool:
        """Whether the corrected test finds a difference, be it of ranks or of means."""
        return self.p_holm < SIGNIFICANT

    @property
    def is_distinguishable(self) -> bool:
        """Whether the corrected test finds a difference, and the interval of the mean lies on the same side of 0.

        A test of ranks asks in how many images a method is better, a mean by how much. A method that gains a little on
        most images and loses much on a few has ranks and means that contradict each other, and is not better.
        """
        return self.is_significant and min(self.sign * self.interval.low, self.sign * self.interval.high) > 0

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
            sign=-self.sign,
        )


@dataclass(frozen=True)
class Ranked:
    """A method's place in a metric."""

    method: int
    """Position in `Ranking.methods`."""
    mean: float
    """Over images and seeds, of the values themselves."""
    std: float
    """Sample standard deviation over images, of means over seeds; 0 for one image."""
    seed_std: float | None
    """Sample standard deviation over seeds, of means over images; None for one seed."""
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
    """The others."""
    places: tuple[Ranked, ...]
    """From the best."""
    pairs: tuple[Pair, ...]
    values: tuple[NDArray[np.float64], ...]
    """Of each method, (S, N), by seed and sample."""

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
    usable = np.all([np.isfinite(of_method).all(axis=0) for of_method in values], axis=0)
    if not usable.any():
        raise DataError(f"no image has a finite {metric} from every method: compare other metrics or fewer methods")
    kept, values = units.subset(usable), [of_method[:, usable] for of_method in values]
    by_unit = [kept.means(compared_values(metric, of_method)) for of_method in values]
    means = [float(compared_values(metric, of_method).mean()) for of_method in values]
    order = sorted(range(len(methods)), key=lambda i: -gain_sign(metric) * means[i])
    others = order if against is None else [i for i in order if i != against]
    couples = list(combinations(order, 2)) if against is None else [(against, i) for i in others]
    pairs = _corrected([_pair(i, j, by_unit, methods) for i, j in couples])
    places = [_place(i, order, values, pairs) for i in order]
    keys = tuple(np.array(units.keys)[usable].tolist())
    left_out = tuple(np.array(units.keys)[~usable].tolist())
    return Ranking(
        metric, direction_of(metric), tuple(methods), kept, keys, left_out, tuple(places), tuple(pairs), tuple(values)
    )


def _pair(i: int, j: int, by_unit: Sequence[NDArray[np.float64]], methods: Sequence[Method]) -> Pair:
    """Compare two methods by their values (S, U) in independent units."""
    first_SU, second_SU = by_unit[i], by_unit[j]
    first_U, second_U = first_SU.mean(axis=0), second_SU.mean(axis=0)
    paired = paired_difference(first_U, second_U)
    both = first_U - second_U
    if len(first_SU) > 1 or len(second_SU) > 1:
        tested = seed_test(first_SU, second_SU, trained=(methods[i].is_trained, methods[j].is_trained))
        name, sign = "t, seeds and images", int(np.sign(tested.interval.mean))
        return Pair(i, j, both, tested.interval, paired.median, paired.p, tested.p, name, sign, tested.seed_share)
    name = "Wilcoxon signed-rank"
    return Pair(i, j, both, mean_interval(both), paired.median, paired.p, paired.p, name, paired.sign, None)


def _corrected(pairs: list[Pair]) -> list[Pair]:
    """The pairs with their p values corrected for one another."""
    adjusted = holm([pair.p for pair in pairs])
    return [replace(pair, p_holm=p) for pair, p in zip(pairs, adjusted, strict=True)]


def _place(i: int, order: list[int], values: Sequence[NDArray[np.float64]], pairs: Sequence[Pair]) -> Ranked:
    """A method's summary; `order` lists the methods from the best."""
    of_images, of_seeds = values[i].mean(axis=0), values[i].mean(axis=1)
    ties = [
        order.index(pair.second if pair.first == i else pair.first) + 1
        for pair in pairs
        if i in (pair.first, pair.second) and not pair.is_distinguishable
    ]
    return Ranked(
        i,
        float(values[i].mean()),
        float(of_images.std(ddof=1)) if len(of_images) > 1 else 0.0,
        float(of_seeds.std(ddof=1)) if len(of_seeds) > 1 else None,
        tuple(sorted(ties)),
    )
