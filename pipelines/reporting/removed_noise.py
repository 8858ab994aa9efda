"""A verdict on how much a restoration removed, compared with the noise level."""

from quell.pipelines.reporting.checks import Finding

KEEPS_NOISE, REMOVES_STRUCTURE = 0.8, 1.1
"""RMS of what a restoration removed over the noise level: a finding warns below the first and above the second. The
best restorations measured removed 0.94 to 0.98; below 1, since even the best one is not perfect."""


def findings(metrics: dict[str, float]) -> list[Finding]:
    """Whether about as much was removed as there is noise, from an evaluation's `removed_over_sigma`, if it has one."""
    value = metrics.get("removed_over_sigma")
    if value is None:
        return []
    message = f"the restoration removed {value:.2f} times the noise level: "
    if value < KEEPS_NOISE:
        message += "noise is left in the result; train longer, or the true sigma is larger than the configured one"
    elif value > REMOVES_STRUCTURE:
        message += "more than the noise; train longer, or the true sigma is smaller than the configured one"
    else:
        message += "about as much as there is noise"
    bound = KEEPS_NOISE if value < KEEPS_NOISE else REMOVES_STRUCTURE
    return [Finding("removed_over_sigma", value, bound, KEEPS_NOISE <= value <= REMOVES_STRUCTURE, message)]
