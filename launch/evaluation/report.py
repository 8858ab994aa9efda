"""What a report shows: mean ± standard deviation over images, as a Markdown table."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from quell.launch.differences.figures import title
from quell.launch.evaluation.evaluator import Rows


class Spread(NamedTuple):
    """How one value is distributed over images."""

    mean: float
    std: float
    """Sample standard deviation (n - 1); 0 for one image, and where a value is infinite."""
    images: int


def spread(rows: Rows, name: str) -> Spread | None:
    """Mean and deviation of a value over the rows that have it, NaN left out; None where no row has it."""
    values = np.array([row.values[name] for row in rows if name in row.values and not math.isnan(row.values[name])])
    if not len(values):
        return None
    is_finite = bool(np.isfinite(values).all())  # equal images have an infinite PSNR, which has no deviation
    deviation = float(values.std(ddof=1)) if len(values) > 1 and is_finite else 0.0
    return Spread(float(values.mean()), deviation, len(values))


def summary_row(rows: Rows, prefix: str, metrics: list[str], *, image: str, method: str) -> dict[str, str]:
    """A table row: mean ± standard deviation of `<prefix>/<metric>` for each metric; one image has no deviation."""
    line = {"image": image, "method": method}
    for metric in metrics:
        statistics = spread(rows, f"{prefix}/{metric}")
        cell = "-"
        if statistics is not None:
            deviation = f" ± {statistics.std:.3f}" if statistics.images > 1 and math.isfinite(statistics.mean) else ""
            cell = f"{statistics.mean:.3f}{deviation}"
        line[title(metric)] = cell
    return line


def markdown_table(rows: Sequence[Mapping[str, object]], *, digits: int = 3) -> str:
    """A Markdown table with a column per key; floats are rounded, a missing value is a dash."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(name), digits) for name in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: object, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)
