"""Methods with several seeds, on simulated networks whose true difference is known."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from quell.launch.differences.seeds import seed_test

UNITS = 12


def networks(
    random: np.random.Generator, images: NDArray[np.float64], mean: float, seeds: int, seed_sd: float
) -> NDArray[np.float64]:
    """Scores (seeds, units) of networks of one method."""
    units = len(images)
    of_method = mean + images + random.normal(0, 0.5, units)
    return of_method + random.normal(0, seed_sd, (seeds, 1)) + random.normal(0, 0.3, (seeds, units))


@pytest.mark.parametrize("seeds", [2, 4])
@pytest.mark.parametrize("seed_sd", [0.0, 0.3, 1.0])
def test_equal_methods_differ_in_one_of_twenty_comparisons_and_the_interval_covers(seeds: int, seed_sd: float) -> None:
    random = np.random.default_rng(5)
    rounds, positive, covered = 500, 0, 0
    for _ in range(rounds):
        images = random.normal(30, 3, UNITS)
        null = [networks(random, images, 0, seeds, seed_sd) for _ in range(2)]
        positive += seed_test(*null, trained=(True, True)).p < 0.05
        other = networks(random, images, 0.7, seeds, seed_sd)
        interval = seed_test(other, null[0], trained=(True, True)).interval
        covered += interval.low <= 0.7 <= interval.high
    assert positive / rounds < 0.08  # 0.05 and three standard errors
    assert covered / rounds > 0.92


@pytest.mark.parametrize("seeds", [(2, 1), (1, 3), (5, 1), (5, 2)])
@pytest.mark.parametrize("seed_sd", [0.3, 1.0])
def test_unequal_numbers_of_seeds_find_no_more(seeds: tuple[int, int], seed_sd: float) -> None:
    random = np.random.default_rng(9)
    rounds, positive = 500, 0
    for _ in range(rounds):
        images = random.normal(30, 3, UNITS)
        first, second = (networks(random, images, 0, count, seed_sd) for count in seeds)
        positive += seed_test(first, second, trained=(True, True)).p < 0.05
    assert positive / rounds < 0.08  # 0.05 and three standard errors


def test_images_alone_would_find_differences_that_are_none() -> None:
    random = np.random.default_rng(6)
    ignoring_seeds = 0
    for _ in range(200):
        images = random.normal(30, 3, UNITS)
        first, second = (networks(random, images, 0, 3, 1.0).mean(axis=0, keepdims=True) for _ in range(2))
        ignoring_seeds += seed_test(first, second, trained=(False, False)).p < 0.05
    assert ignoring_seeds / 200 > 0.3


def test_a_true_difference_is_found() -> None:
    random = np.random.default_rng(7)
    found = 0
    for _ in range(100):
        images = random.normal(30, 3, UNITS)
        first, second = (networks(random, images, mean, 3, 0.2) for mean in (0.0, 1.5))
        found += seed_test(second, first, trained=(True, True)).p < 0.05
    assert found > 90


def test_a_single_seed_is_given_the_spread_of_the_others_and_a_baseline_none() -> None:
    random = np.random.default_rng(8)
    images = random.normal(30, 3, UNITS)
    many, one = networks(random, images, 1, 4, 1.0), networks(random, images, 0, 1, 1.0)
    trained = seed_test(many, one, trained=(True, True))
    fixed = seed_test(many, one, trained=(True, False))
    assert trained.interval.high - trained.interval.low > 1.5 * (fixed.interval.high - fixed.interval.low)
    assert trained.seed_share > fixed.seed_share > 0


def test_one_unit_and_equal_networks() -> None:
    alone = seed_test(np.array([[1.0], [2.0]]), np.array([[0.0]]), trained=(True, False))
    assert alone.interval.mean == 1.5 and math.isnan(alone.p)
    same = seed_test(np.ones((2, 5)), np.ones((2, 5)), trained=(True, True))
    assert same.p == 1 and same.interval.mean == 0
