"""The results of the page: the restored images next to the baselines, with intervals and tests."""

import math
from collections.abc import Sequence

from quell.configs.errors import DataError
from quell.configs.metric_names import can_rank
from quell.launch.comparing.comparison import Ranking, rank
from quell.launch.comparing.methods import Method, methods_of
from quell.launch.comparing.reports import RunReport
from quell.launch.comparing.text import omissions, p_text, verdict
from quell.launch.differences.figures import figure, title
from quell.launch.differences.intervals import mean_interval
from quell.launch.differences.units import Units, units_of
from quell.launch.run_report.html import Content, Html, element, table

SHOWN_METRICS = 3
"""Metrics with columns of their own; the first is tested as well."""


def main_metric(report: RunReport) -> str | None:
    """The first metric that ranks; None where nothing could be measured."""
    names = [name for values in report.restored.values() for name in values if can_rank(name)]
    return names[0] if names else None


def content(report: RunReport) -> list[Html]:
    """The section's content: a table for each noisy field, and what was measured."""
    metric = main_metric(report)
    if metric is None:
        return [element("p", "Nothing could be measured of these images: there is no reference to compare them with.")]
    units = units_of(report.keys, report.groups)
    parts = [part for member in report.restored for part in _table(report, member, metric, units)]
    warnings = [
        element("p", f"Warning: {text}.", class_="verdict problem") for text in report.content.get("warnings", ())
    ]
    about = (
        f"{units.note} Data range {report.content['data_range']:g}, checkpoint {report.content['checkpoint']}. "
        f"Mean and 95 % interval over {units.word}. Differences are this run minus the other, with Holm-corrected p of "
        "the Wilcoxon signed-rank test."
    )
    return [*warnings, *parts, element("p", about, class_="note")]


def headline(report: RunReport) -> tuple[str, str] | None:
    """The main metric's name and its mean over the fields, with the gain over the best baseline if there is one."""
    metric = main_metric(report)
    if metric is None:
        return None
    members = [member for member in report.restored if metric in report.restored[member]]
    methods = [
        method for method in methods_of([report]) if all(m in table for table in method.tables() for m in members)
    ]
    ranking = _ranking(metric, methods, members, units_of(report.keys, report.groups))
    if ranking is None:
        return title(metric), "-"
    text = figure(metric, float(ranking.unit_values[0].mean()))
    if failed := len(ranking.failures[0]):
        text += f" ({failed} images failed)"
    other = next((place.method for place in ranking.places if place.method != 0), None)
    pair = None if other is None else ranking.pair(0, other)
    if pair is not None:
        gain = figure(metric, pair.interval.mean, signed=True)
        text += f", {gain} against {methods[pair.second].name} ({verdict(pair)})"
    return title(metric), text


def _ranking(metric: str, methods: Sequence[Method], members: Sequence[str], units: Units) -> Ranking | None:
    """This run, which is the first method, compared with the others; None where no image has values of all."""
    try:
        return rank(metric, methods, members, units, against=0)
    except DataError:
        return None


def _table(report: RunReport, member: str, main: str, units: Units) -> list[Html]:
    """The methods of one noisy field, and a note where images are left out."""
    methods = [method for method in methods_of([report]) if all(member in table for table in method.tables())]
    shared = [name for name in methods[0].metrics([member]) if all(name in m.metrics([member]) for m in methods)]
    metrics = [name for name in (main, *shared) if name in shared]
    metrics = list(dict.fromkeys(metrics))[:SHOWN_METRICS]
    rankings = {name: _ranking(name, methods, [member], units) for name in metrics if can_rank(name)}
    rows: list[dict[str, Content]] = []
    tests = _tests(methods, main, rankings.get(main))
    for number, method in enumerate(methods):
        row: dict[str, Content] = {"method": element("strong", method.name) if number == 0 else method.name}
        for metric, ranking in rankings.items():
            row[title(metric)] = _value(number, ranking)
        rows.append(row | tests.get(number, {}))
    notes: dict[str, list[str]] = {}  # sentence -> metrics that it is true of
    for metric, ranking in rankings.items():
        empty = ["No image has a finite value of every method."]
        for sentence in omissions(ranking) if ranking else empty:
            notes.setdefault(sentence, []).append(title(metric))
    about = [
        element("p", f"{', '.join(titles)}: {sentence}", class_="verdict problem") for sentence, titles in notes.items()
    ]
    caption = f"Noisy images: {member}"
    if (ranking := rankings.get(main)) is not None:
        caption += f" (intervals: {mean_interval(ranking.unit_values[0][0]).method})"
    return [table(rows, caption=caption, class_="numbers"), *about]


def _value(number: int, ranking: Ranking | None) -> str:
    """A method's mean over units with its interval."""
    if ranking is None:
        return "-"
    metric, interval = ranking.metric, mean_interval(ranking.unit_values[number][0])
    if math.isnan(interval.low):  # one unit
        return figure(metric, interval.mean)
    return f"{figure(metric, interval.mean)} ({figure(metric, interval.low)} to {figure(metric, interval.high)})"


def _tests(methods: Sequence[Method], metric: str, ranking: Ranking | None) -> dict[int, dict[str, Content]]:
    """Position of a baseline -> how this run compares with it."""
    found: dict[int, dict[str, Content]] = {}
    for number in range(1, len(methods)):
        pair = None if ranking is None else ranking.pair(0, number)
        if pair is not None:
            low, high = (figure(metric, value, signed=True) for value in (pair.interval.low, pair.interval.high))
            mean = figure(metric, pair.interval.mean, signed=True)
            outcome = verdict(pair)
            mark = {"better": "ok", "worse": "problem"}.get(outcome, "open")
            found[number] = {
                f"difference in {title(metric)}": f"{mean} ({low} to {high})",
                "p": p_text(pair.p_holm),
                "this run is": element("span", outcome, class_=f"chip {mark}"),
            }
    return found
