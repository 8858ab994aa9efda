"""Which values of a metric are good."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from quell.configs.errors import ConfigError
from quell.configs.metric_names import higher_is_better

Direction = Literal["larger", "smaller", "nearer to 1"]
"""What is better."""

NEARER_TO_1 = ("epi", "epi_h", "epi_v")
NEITHER = ("enl", "msr")
"""Metrics that blur improves without limit: their differences say nothing about which method is better."""


def direction_of(metric: str) -> Direction:
    """What is better in a metric; ConfigError for one that neither large nor small values of are good."""
    if metric in NEITHER:
        raise ConfigError(f"{metric} grows with blur, so it cannot rank methods: choose others with --metrics")
    return "nearer to 1" if metric in NEARER_TO_1 else "larger" if higher_is_better(metric) else "smaller"


def can_rank(metric: str) -> bool:
    """Whether a metric has a direction."""
    return metric not in NEITHER


def compared_values(metric: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is subtracted: the values, or their distance from 1 where that is what counts."""
    return np.abs(values - 1) if direction_of(metric) == "nearer to 1" else values


def gain_sign(metric: str) -> int:
    """1 where a positive difference of compared values is an improvement, else -1."""
    return 1 if direction_of(metric) == "larger" else -1
