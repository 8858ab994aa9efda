"""Holm's correction, against a worked example and on true hypotheses."""

import math

import numpy as np
import pytest

from quell.launch.differences.holm import holm


def test_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


def test_what_could_not_be_tested_does_not_count() -> None:
    adjusted = holm([math.nan, 0.02, 0.03])
    assert math.isnan(adjusted[0]) and adjusted[1:] == pytest.approx([0.04, 0.04])


def test_any_of_many_true_hypotheses_is_rejected_in_one_family_of_twenty() -> None:
    random = np.random.default_rng(0)
    families = random.uniform(size=(2000, 6))
    assert 0.035 < np.mean([min(holm(family.tolist())) < 0.05 for family in families]) < 0.065
