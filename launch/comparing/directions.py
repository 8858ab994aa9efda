"""Values of a metric as they are subtracted from each other."""

import numpy as np
from numpy.typing import NDArray

from quell.configs.metric_names import direction_of


def compared_values(metric: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is subtracted: the values, or their distance from 1 where that is what counts."""
    return np.abs(values - 1) if direction_of(metric) == "nearer to 1" else values


def gain_sign(metric: str) -> int:
    """1 where a positive difference of compared values is an improvement, else -1."""
    return 1 if direction_of(metric) == "larger" else -1
