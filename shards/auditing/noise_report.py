"""What an audit found, as text, Markdown and JSON."""

from collections.abc import Iterator

from quell.losses.noise.audit import NoiseAudit
from quell.losses.noise.estimate import Estimate
from quell.losses.noise.verdicts import Verdict, verdicts

LAGS = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0))
"""Lags (rows, columns) that are listed."""


def markdown(audit: NoiseAudit, what: str) -> list[str]:
    """The audit as lines of Markdown; `what` says which images were looked at."""
    lines = [f"Measured on {what}, in stored units" + "; of each part where complex.", ""]
    lines += ["| field | level | correlation right, below, diagonal | over the image | with the signal | known from |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    lines += [_row(name, estimate) for name, estimate in audit.estimates.items()]
    lines += [""]
    lines += [
        f"- {first} and {second}: correlation of the noise {value:.2f}" for (first, second), value in _shared(audit)
    ]
    for name, estimate in audit.estimates.items():
        lines += [f"- {name}: {note}" for note in estimate.notes]
    lines += ["", "| method | verdict | why | what to do |", "| --- | --- | --- | --- |"]
    lines += [f"| {each.method} | {each.status} | {each.reason} | {each.remedy or '-'} |" for each in _verdicts(audit)]
    return lines


def as_json(audit: NoiseAudit) -> dict[str, object]:
    """The audit as data."""
    fields = {
        name: {
            "sigma": estimate.noise.sigma,
            "sigma_error": estimate.sigma_error,
            "kind": estimate.noise.kind,
            "gain": estimate.noise.gain,
            "correlation": {f"{rows},{columns}": estimate.noise.correlation(rows, columns) for rows, columns in LAGS},
            "correlation_error": estimate.correlation_error,
            "signal": estimate.signal,
            "impulsive": estimate.impulsive,
            "image_levels": list(estimate.image_levels),
            "channels": estimate.channels.tolist(),
            "source": estimate.source,
            "notes": list(estimate.notes),
        }
        for name, estimate in audit.estimates.items()
    }
    between = {f"{first}/{second}": value for (first, second), value in audit.between.items()}
    listed = [
        {"method": each.method, "status": each.status, "reason": each.reason, "remedy": each.remedy}
        for each in _verdicts(audit)
    ]
    return {"fields": fields, "between": between, "verdicts": listed}


def _row(name: str, estimate: Estimate) -> str:
    noise = estimate.noise
    level = f"{noise.sigma:.4g} ± {estimate.sigma_error:.2g}"
    if noise.gain:
        level += f", and {noise.gain:.3g} x signal in variance"
    correlation = "white"
    if not noise.is_white:
        listed = ", ".join(f"{noise.correlation(*lag):.2f}" for lag in LAGS[:3])
        correlation = f"{listed} ± {estimate.correlation_error:.2f}"
    spread = "equal"
    if noise.level_map is not None:
        levels = noise.sigma * noise.level_map
        spread = f"{levels.min():.3g} to {levels.max():.3g}"
    return f"| {name} | {level} | {correlation} | {spread} | {estimate.signal} | {estimate.source} |"


def _shared(audit: NoiseAudit) -> Iterator[tuple[tuple[str, str], float]]:
    yield from audit.between.items()
    for name, estimate in audit.estimates.items():
        matrix = estimate.channels
        for row in range(len(matrix)):
            for column in range(row):
                yield (f"{name}, channel {column + 1}", f"channel {row + 1}"), float(matrix[row, column])


def _verdicts(audit: NoiseAudit) -> list[Verdict]:
    return verdicts(audit.model)
