"""Intervals of mean differences: they cover the truth as often as they say, for few and for skewed differences."""

import math

import numpy as np
import pytest

from quell.configs.errors import DataError
from quell.launch.differences import intervals
from quell.launch.differences.intervals import mean_interval


@pytest.mark.parametrize("count", [6, 12])
@pytest.mark.parametrize("kind", ["normal", "skewed"])
def test_the_interval_covers_the_true_mean(kind: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 1000)
    random = np.random.default_rng(3)
    covered, rounds = 0, 400
    for _ in range(rounds):
        drawn = random.normal(0, 1, count) if kind == "normal" else random.gamma(1, 1, count) - 1
        interval = mean_interval(drawn + 0.3)
        covered += interval.low <= 0.3 <= interval.high
    # 0.95 less three standard errors; percentile and BCa intervals cover 0.80 to 0.91 of these
    assert covered / rounds > 0.915


def test_the_ends_are_on_both_sides_and_repeat() -> None:
    drawn = np.random.default_rng(0).normal(1, 1, 20)
    interval = mean_interval(drawn)
    assert interval == mean_interval(drawn) and interval.method == "studentized bootstrap"
    assert interval.low < interval.mean < interval.high and interval.mean == pytest.approx(drawn.mean())
    shifted = mean_interval(-drawn)
    assert shifted.low == pytest.approx(-interval.high, abs=0.02)


def test_few_or_equal_differences_say_what_their_interval_is() -> None:
    assert mean_interval(np.array([1.0, 2.0, 3.0])).method == "Student's t"
    assert mean_interval(np.array([1.0, 2.0, 3.0])).low == pytest.approx(2 - 4.303 / 3**0.5, abs=1e-3)
    alone = mean_interval(np.array([2.0]))
    assert alone.mean == 2 and math.isnan(alone.low) and math.isnan(alone.high)
    equal = mean_interval(np.full(9, 0.1))
    assert (equal.low, equal.high) == (equal.mean, equal.mean)


def test_many_differences_are_resampled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = np.random.default_rng(0).normal(1, 1, 50)
    whole = mean_interval(drawn)
    monkeypatch.setattr(intervals, "RESAMPLES_IN_MEMORY", 1700)
    assert mean_interval(drawn).high == pytest.approx(whole.high, abs=0.02)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(DataError, match="finite differences"):
        mean_interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, value]))
