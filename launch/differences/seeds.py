"""Differences between methods that were trained with several seeds: training once more would give other networks.

A network trained with one seed is one draw of what its method produces. The images are a sample, too. Both are random
factors, and they are crossed: every network restores every image.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from quell.launch.differences.intervals import LEVEL, Interval


@dataclass(frozen=True)
class SeedTest:
    """The difference of two methods, allowing for their seeds."""

    interval: Interval
    p: float
    """Two-sided; NaN for one unit."""
    degrees_of_freedom: float
    seed_share: float
    """Part of the variance of the difference that comes from the seeds, 0 to 1."""


@dataclass(frozen=True)
class _SeedEffect:
    """The spread of a method's seed means, and the part of it that single images explain; both of one network."""

    between: float
    within: float
    seeds: int
    units: int


def seed_test(first_SU: NDArray[np.float64], second_SU: NDArray[np.float64], *, trained: tuple[bool, bool]) -> SeedTest:
    """Test the mean difference of two methods, with seeds and units as crossed random effects.

    The linear mixed model value = method + unit + seed within method + unit x method + residual, with its variances by
    the method of moments, and Satterthwaite's degrees of freedom. A trained method with a single seed is given the
    spread of the other's seeds. That spread is then one estimate used twice, and all that is known of the seeds, so
    the test has no more degrees of freedom than the estimate: with two seeds, one, which finds huge differences only.

    Args:
        first_SU: Values of one method, (seeds, units).
        second_SU: Values of the other on the same units.
        trained: Whether each has seeds at all; a baseline has none.

    Source:
        Satterthwaite, Biometrics Bulletin 1946; Clark, Journal of Verbal Learning 1973 (quasi-F for crossed effects);
        Hillis, Statistics in Medicine 2007 (the same design with readers for seeds and cases for images).
    """
    difference_U = first_SU.mean(axis=0) - second_SU.mean(axis=0)
    units, mean = len(difference_U), float(difference_U.mean())
    if units < 2:
        return SeedTest(Interval(mean, np.nan, np.nan, "none: one unit has no spread"), np.nan, np.nan, np.nan)
    of_units = float(difference_U.var(ddof=1)) / units
    variance, squares = of_units, of_units**2 / (units - 1)
    borrows = all(trained) and min(len(first_SU), len(second_SU)) == 1
    estimates = [_seed_effect(values) for values in (first_SU, second_SU) if len(values) > 1]
    for effect in estimates:
        share = 1 / effect.seeds + (1 if borrows else 0)  # of the variance of the difference
        added = max(effect.between - effect.within, 0.0) * share
        if added:
            variance += added
            squares += (effect.between * share) ** 2 / (effect.seeds - 1)
            squares += (effect.within * share) ** 2 / ((effect.seeds - 1) * (effect.units - 1))
    if variance == 0:
        return SeedTest(Interval(mean, mean, mean, "none: all differences are equal"), float(mean == 0), units - 1, 0.0)
    freedom = variance**2 / squares
    if borrows:
        freedom = min([freedom, *(effect.seeds - 1 for effect in estimates)])
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * variance**0.5
    p = 2 * float(stats.t.sf(abs(mean) / variance**0.5, freedom))
    interval = Interval(mean, mean - half, mean + half, "mixed model with seeds and images as random effects")
    return SeedTest(interval, p, freedom, 1 - of_units / variance)


def _seed_effect(values_SU: NDArray[np.float64]) -> _SeedEffect:
    """Variance of the mean over units between seeds, and what of it the residual of single units would explain."""
    seeds, units = values_SU.shape
    seed_means = values_SU.mean(axis=1, keepdims=True)
    residual = values_SU - seed_means - values_SU.mean(axis=0) + values_SU.mean()
    mean_square = float((residual**2).sum()) / ((seeds - 1) * (units - 1))
    return _SeedEffect(float(seed_means.var(ddof=1)), mean_square / units, seeds, units)
