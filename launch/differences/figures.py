"""Values and differences of metrics as tables and sentences show them."""

import math

UNITS = {"psnr": "dB"}
"""Units that a column's heading names."""

DECIMALS = {"psnr": 2, "ssim": 4, "ms_ssim": 4, "lpips": 4, "epi": 4, "epi_h": 4, "epi_v": 4}
"""Digits after the decimal point of metrics whose scale does not depend on the images; of others, 4 that count."""


def title(metric: str) -> str:
    """A metric's heading: PSNR (dB)."""
    return metric.upper() + (f" ({UNITS[metric]})" if metric in UNITS else "")


def figure(metric: str, value: float, *, signed: bool = False) -> str:
    """A value of a metric, rounded; a dash where it is not finite."""
    if not math.isfinite(value):
        return "-"
    digits = f".{DECIMALS[metric]}f" if metric in DECIMALS else ".4g"
    return f"{value + 0.0:{'+' if signed else ''}{digits}}"  # which leaves no sign to a zero
