"""Paired comparisons: median difference, interval and p, against known cases."""

import math

import numpy as np
import pytest

from quell.configs.errors import DataError
from quell.launch.differences.paired_statistics import paired_difference


def test_a_constant_gain_over_six_images_has_the_smallest_p_that_six_images_can_give() -> None:
    scores = np.array([20.0, 25.0, 31.0, 28.0, 22.0, 27.0])
    compared = paired_difference(scores + 1.5 + 0.02 * np.arange(6), scores)
    assert compared.images == 6 and compared.median == pytest.approx(1.55)
    assert 1.5 <= compared.low <= compared.median <= compared.high <= 1.61
    assert compared.p == pytest.approx(2 / 2**6)
    assert compared.words("psnr").startswith("+1.55 dB (median of 6 images, 95 % interval +1.5")


def test_the_interval_covers_the_true_difference_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    covered, small = 0, 0
    for _ in range(100):
        base = random.normal(30, 5, 40)
        compared = paired_difference(base + random.normal(0.3, 1.0, 40), base)
        covered += compared.low <= 0.3 <= compared.high
        small += paired_difference(base + random.normal(0, 1.0, 40), base).p < 0.05
    assert covered >= 88 and small <= 12


def test_missing_values_equal_scores_and_single_images() -> None:
    compared = paired_difference([1.0, math.nan, math.inf], [0.5, 1.0, 1.0])
    assert (compared.images, compared.median) == (1, 0.5) and math.isnan(compared.p)
    assert paired_difference([1.0, 2.0], [1.0, 2.0]).p == 1.0
    with pytest.raises(DataError, match="got 2 and 1"):
        paired_difference([1.0, 2.0], [1.0])
    with pytest.raises(DataError, match="no image has both"):
        paired_difference([math.nan], [1.0])


def test_the_sign_is_that_of_the_ranks() -> None:
    differences = [0.1, 0.2, 0.3, 0.4, -9.0, 0.0]  # ranks 1 to 4 against rank 5
    compared = paired_difference(differences, [0.0] * 6)
    assert compared.sign == 1 and paired_difference([0.0] * 6, differences).sign == -1
    assert paired_difference([1.0, 1.0], [1.0, 1.0]).sign == paired_difference([1.0, 0.0], [0.0, 1.0]).sign == 0
