"""Tables and pictures of an evaluation: Markdown, JSON rows, and one PNG."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from launch.evaluation.evaluator import Rows

HEADER_PX = 18

UNITS = {"psnr": "dB"}


def spread(rows: Rows, name: str) -> tuple[float, float, int] | None:
    """Mean, standard deviation (n - 1) and count of one number over the rows that have it."""
    values = np.array([row[name] for row in rows if isinstance(row.get(name), float) and not math.isnan(row[name])])
    if not len(values):
        return None
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0, len(values)


def markdown_table(rows: list[dict[str, Any]], *, digits: int = 3) -> str:
    """A Markdown table of dictionaries; numbers rounded, missing values a dash."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_cell(row.get(name), digits) for name in names) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def summary_rows(rows: Rows, outputs: dict[str, str], metrics: list[str], label: str) -> list[dict[str, Any]]:
    """One table row per output (name -> what it is called) with mean ± standard deviation of each metric.

    One image has no deviation.
    """
    table = []
    for output, called in outputs.items():
        line: dict[str, Any] = {"image": called, "method": label}
        for metric in metrics:
            found = spread(rows, f"{output}/{metric}")
            unit = f" ({UNITS[metric]})" if metric in UNITS else ""
            line[metric.upper() + unit] = (
                "-" if found is None else f"{found[0]:.3f}" + (f" ± {found[1]:.3f}" if found[2] > 1 else "")
            )
        table.append(line)
    return table


def sheet(strips: list[tuple[str, list[tuple[str, np.ndarray]]]], path: Path) -> None:
    """A PNG of labelled rows: each row is a title and (caption, uint8 (H, W, 3)) pictures."""
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


def _cell(value: Any, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)
