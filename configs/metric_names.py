"""The numbers that a run may choose its best checkpoint by, and which of them fall as images get better."""

from quell.configs import registry
from quell.configs.support.suggestions import did_you_mean

RISK = "risk"
"""The mean squared error estimated without clean images; no file of losses/metrics/."""
LOWER_IS_BETTER = ("gcmse", "gcmse_per_pixel", "lpips", "nmse", "rmse", RISK)
"""Those that fall as images get better; all others rise."""


def base_name(metric: str) -> str:
    """The metric itself of `psnr` or `pd_cross/psnr`."""
    return metric.rpartition("/")[2]


def output_of(metric: str) -> str | None:
    """The output that a metric is measured of; None where it is the mean over the primary outputs."""
    return metric.rpartition("/")[0] or None


def higher_is_better(metric: str) -> bool:
    """Whether a metric rises as images get better."""
    return base_name(metric) not in LOWER_IS_BETTER


def problem(metric: str) -> str:
    """Why nothing can be chosen by a metric of this name; empty if something can."""
    known = [*registry.names("losses/metrics"), RISK]
    base = base_name(metric)
    return "" if base in known else f"no metric '{base}'; {did_you_mean(base, known)}"
