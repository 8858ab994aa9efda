"""What a report shows: mean ± standard deviation over images, as a Markdown table, and one PNG of pictures."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from launch.evaluation.evaluator import Rows

HEADER_PX = 18

UNITS = {"psnr": "dB"}
"""Units that a column's heading names."""

Strip = tuple[str, list[tuple[str, np.ndarray]]]
"""A title, and captioned uint8 (H, W, 3) pictures of one image side by side."""


class Spread(NamedTuple):
    """How one value is distributed over images."""

    mean: float
    std: float
    """Sample standard deviation (n - 1); 0 for one image."""
    images: int


def spread(rows: Rows, name: str) -> Spread | None:
    """Mean and deviation of a value over the rows that have it, NaN left out; None where no row has it."""
    values = np.array([row.values[name] for row in rows if name in row.values and not math.isnan(row.values[name])])
    if not len(values):
        return None
    return Spread(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0, len(values))


def summary_row(rows: Rows, prefix: str, metrics: list[str], *, image: str, method: str) -> dict[str, str]:
    """A table row: mean ± standard deviation of `<prefix>/<metric>` for each metric; one image has no deviation."""
    line = {"image": image, "method": method}
    for metric in metrics:
        statistics = spread(rows, f"{prefix}/{metric}")
        unit = f" ({UNITS[metric]})" if metric in UNITS else ""
        cell = "-"
        if statistics is not None:
            deviation = f" ± {statistics.std:.3f}" if statistics.images > 1 else ""
            cell = f"{statistics.mean:.3f}{deviation}"
        line[metric.upper() + unit] = cell
    return line


def markdown_table(rows: Sequence[Mapping[str, object]], *, digits: int = 3) -> str:
    """A Markdown table with a column per key; floats are rounded, a missing value is a dash."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(name), digits) for name in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def sheet(strips: list[Strip], path: Path) -> None:
    """Write the strips below one another to a PNG file."""
    rows = [_row(title, pictures) for title, pictures in strips]
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(path)


def _row(title: str, pictures: list[tuple[str, np.ndarray]]) -> np.ndarray:
    columns = []
    for number, (caption, picture) in enumerate(pictures):
        text = f"{title}  {caption}" if number == 0 else caption
        header = Image.new("RGB", (picture.shape[1], HEADER_PX), "white")
        ImageDraw.Draw(header).text((3, 3), text, fill="black")
        columns.append(np.concatenate([np.asarray(header), picture]))
        columns.append(np.full((picture.shape[0] + HEADER_PX, 4, 3), 255, np.uint8))
    return np.concatenate(columns[:-1], axis=1)


def _cell(value: object, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)
