"""The metrics' names and directions: what is better in each, for comparisons and for the choice of a checkpoint."""

from typing import Literal

from quell.configs import registry
from quell.configs.errors import ConfigError
from quell.configs.support.suggestions import did_you_mean

RISK = "risk"
"""The mean squared error estimated without clean images; no file of losses/metrics/."""

Direction = Literal["larger", "smaller", "nearer to 1"]
"""What is better."""

SMALLER = ("gcmse", "gcmse_per_pixel", "lpips", "nmse", "rmse", RISK)
NEARER_TO_1 = ("epi", "epi_h", "epi_v")
"""Ratios to the clean image: less is blur, more is noise."""
NEITHER = ("enl", "msr")
"""Metrics that blur improves without limit: their values say nothing about which image is better."""


def base_name(metric: str) -> str:
    """The metric itself of `psnr` or `pd_cross/psnr`."""
    return metric.rpartition("/")[2]


def output_of(metric: str) -> str | None:
    """The output that a metric is measured of; None where it is the mean over the primary outputs."""
    return metric.rpartition("/")[0] or None


def can_rank(metric: str) -> bool:
    """Whether a metric has a direction."""
    return base_name(metric) not in NEITHER


def direction_of(metric: str) -> Direction:
    """What is better in a metric; ConfigError for one that neither large nor small values of are good."""
    base = base_name(metric)
    if base in NEITHER:
        raise ConfigError(f"{base} grows with blur, so it cannot rank methods: choose others with --metrics")
    return "nearer to 1" if base in NEARER_TO_1 else "smaller" if base in SMALLER else "larger"


def cost(metric: str, value: float) -> float:
    """What falls as images get better: the value, its negative, or its distance from 1; of two, the smaller is better.

    NaN stays NaN; an infinite value that no image can do worse than costs infinity.
    """
    direction = direction_of(metric)
    return abs(value - 1) if direction == "nearer to 1" else value if direction == "smaller" else -value


def problem(metric: str) -> str:
    """Why there is no metric of this name; empty if there is one. Old runs may name one that chooses nothing."""
    known = [*registry.names("losses/metrics"), RISK]
    base = base_name(metric)
    return "" if base in known else f"no metric '{base}'; {did_you_mean(base, known)}"
