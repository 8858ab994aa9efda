"""Learning curves as inline SVG, which can be read without JavaScript; with it, values are shown under the pointer."""

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

from quell.configs.support.json_files import Record
from quell.launch.run_report.html import Html, element

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 62, 10, 10, 34
"""Margins of the plot area in a drawing of WIDTH x HEIGHT."""
MOST_POINTS = 300
"""Points of a curve; of longer ones, the smallest and the largest value of each part are kept."""
MOST_SERIES = 6
LOG_RATIO = 30
"""Positive losses that fall by more than this factor are drawn on a logarithmic axis."""


class Series(NamedTuple):
    """One curve."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    """NaN where there is none."""


class Panel(NamedTuple):
    """Curves that share their axes."""

    title: str
    series: Sequence[Series]
    may_be_log: bool = False


def panels(events: Sequence[Record]) -> list[Panel]:
    """The panels of a run's log: losses and their terms, quality on the validation split, rates, gradients, speed."""
    train = [event for event in events if event["event"] == "train"]
    evaluations = [event for event in events if event["event"] == "eval"]
    logged = list(dict.fromkeys(name for event in train for name in event))
    prefixes = ("loss_", "lr_", "grad_norm_", "skipped_", "weight_", "sigma_")
    own = ("event", "step", "time", "epoch", "images_per_s", "step_ms", "data_wait")
    terms = [name for name in logged if not name.startswith(prefixes) and name not in own]
    measured = [name for name in ("psnr", "ssim", "rmse", "risk") if any(name in event for event in evaluations)]
    drawn = [
        Panel("Loss", _series(train, _starting("loss_", logged)), may_be_log=True),
        *(Panel(f"Validation {name.upper()}", _series(evaluations, [name, f"noisy_{name}"])) for name in measured[:3]),
        Panel("Terms of the loss, and what is measured beside them", _series(train, terms), may_be_log=True),
        Panel("Learning rate", _series(train, _starting("lr_", logged))),
        Panel("Gradient norm", _series(train, _starting("grad_norm_", logged)), may_be_log=True),
        Panel("Time per step (ms)", _series(train, ["step_ms"])),
    ]
    return [panel for panel in drawn if panel.series]


def draw(panel: Panel) -> Html:
    """A figure with a caption, a drawing, and a legend."""
    series = [thinned(each) for each in panel.series[:MOST_SERIES]]
    steps = [step for each in series for step in each.steps]
    values = [value for each in series for value in each.values if math.isfinite(value)]
    if not values:
        return element("figure", element("figcaption", panel.title), element("p", "no finite values", class_="note"))
    is_log = panel.may_be_log and min(values) > 0 and max(values) > LOG_RATIO * min(values)
    x = Axis(min(steps), max(steps), LEFT, WIDTH - RIGHT)
    y = Axis(*_padded(min(values), max(values), is_log=is_log), HEIGHT - BOTTOM, TOP, is_log=is_log)
    marks = [_grid(x, y), *(_curve(each, x, y, number) for number, each in enumerate(series, 1))]
    last = "; ".join(f"{each.name} ends at {_last(each):.4g}" for each in series)
    drawing = element(
        "svg",
        *marks,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{panel.title} by step: {last}.",
    )
    data = [
        {"name": each.name, "steps": list(each.steps), "values": [v if math.isfinite(v) else None for v in each.values]}
        for each in series
    ]
    area = {"left": x.start, "right": x.end, "low": x.low, "high": x.high, "width": WIDTH}
    legend = [element("li", each.name, class_=f"series{number}") for number, each in enumerate(series, 1)]
    dropped = len(panel.series) - len(series)
    return element(
        "figure",
        element("figcaption", panel.title + (", logarithmic" if is_log else "")),
        drawing,
        element("ul", legend, class_="legend"),
        element("p", f"{dropped} more in metrics.jsonl", class_="note") if dropped else None,
        element("output", class_="readout", aria_live="off"),
        class_="curve",
        data_curve=json.dumps({"area": area, "series": data}),
    )


class Axis:
    """From values to positions in the drawing."""

    def __init__(self, low: float, high: float, start: float, end: float, *, is_log: bool = False) -> None:
        if low == high:
            low, high = low - (abs(low) * 0.1 or 1), high + (abs(high) * 0.1 or 1)
        self.low, self.high, self.start, self.end, self.is_log = low, high, start, end, is_log

    def at(self, value: float) -> float:
        """The position of a value."""
        low, high, value = (math.log(v) if self.is_log else v for v in (self.low, self.high, value))
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 1)

    def ticks(self, count: int = 6) -> list[float]:
        """Round values to label."""
        if self.is_log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
            found = [value for value in found if self.low <= value <= self.high]
            return found[:: max(1, math.ceil(len(found) / count))]
        raw = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= raw)
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def thinned(series: Series) -> Series:
    """A curve of at most MOST_POINTS points that keeps its extremes and its last point."""
    count = len(series.steps)
    if count <= MOST_POINTS:
        return series
    parts = MOST_POINTS // 2 - 1
    chosen: set[int] = {count - 1}
    for part in range(parts):
        inside = range(part * count // parts, (part + 1) * count // parts)
        finite = [i for i in inside if math.isfinite(series.values[i])] or list(inside)
        chosen |= {min(finite, key=series.values.__getitem__), max(finite, key=series.values.__getitem__)}
    kept = sorted(chosen)
    return Series(series.name, [series.steps[i] for i in kept], [series.values[i] for i in kept])


def _series(events: Sequence[Record], names: Sequence[str]) -> list[Series]:
    """The curves of these names that the events have values of."""
    found = []
    for name in names:
        having = [event for event in events if isinstance(event.get(name), int | float | None) and name in event]
        if having:
            values = [math.nan if event[name] is None else float(event[name]) for event in having]
            found.append(Series(name, [float(event["step"]) for event in having], values))
    return found


def _starting(prefix: str, names: Sequence[str]) -> list[str]:
    return [name for name in names if name.startswith(prefix)]


def _last(series: Series) -> float:
    return next((value for value in reversed(series.values) if math.isfinite(value)), math.nan)


def _padded(low: float, high: float, *, is_log: bool) -> tuple[float, float]:
    """The ends of an axis, so that a curve does not touch the frame."""
    if is_log:
        return low / 1.1, high * 1.1
    margin = 0.05 * (high - low)
    return low - margin, high + margin


def _grid(x: Axis, y: Axis) -> list[Html]:
    """Grid lines with their labels."""
    marks = []
    for value in y.ticks():
        place = y.at(value)
        marks.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=place, y2=place, class_="grid"))
        marks.append(element("text", f"{value:.4g}", x=LEFT - 6, y=place + 4, class_="tick", text_anchor="end"))
    for value in x.ticks(4):
        label = element("text", f"{value:g}", x=x.at(value), y=HEIGHT - 14, class_="tick", text_anchor="middle")
        marks.append(label)
    marks.append(element("text", "step", x=WIDTH - RIGHT, y=HEIGHT - 1, class_="tick", text_anchor="end"))
    return marks


def _curve(series: Series, x: Axis, y: Axis, number: int) -> list[Html]:
    """The lines between finite values, and a dot for each where there are few."""
    pieces: list[list[str]] = [[]]
    for step, value in zip(series.steps, series.values, strict=True):
        if math.isfinite(value):
            pieces[-1].append(f"{x.at(step)},{y.at(value)}")
        elif pieces[-1]:
            pieces.append([])
    lines = [
        element("polyline", points=" ".join(piece), class_=f"line series{number}") for piece in pieces if piece[1:]
    ]
    points = [point for piece in pieces for point in piece]
    if len(points) > 30:
        return lines
    dots = [point.split(",") for point in points]
    return lines + [element("circle", cx=cx, cy=cy, r=2.5, class_=f"dot series{number}") for cx, cy in dots]
