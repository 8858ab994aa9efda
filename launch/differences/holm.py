"""Correction of several tests."""

import math
from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """P values of a family of tests, adjusted so that the chance of any false positive stays below the level.

    Args:
        p_values: One per test; NaN stays NaN and does not count.

    Source:
        Holm, Scandinavian Journal of Statistics 1979 (step-down).
    """
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
