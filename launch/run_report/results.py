"""The results of the page: the restored images next to the baselines, with intervals and tests."""

from collections.abc import Sequence

from quell.configs.metric_names import can_rank
from quell.launch.comparing.comparison import rank
from quell.launch.comparing.methods import Method, methods_of
from quell.launch.comparing.reports import RunReport
from quell.launch.comparing.text import figure, p_text, title, verdict
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
    tables = [_table(report, member, metric, units) for member in report.restored]
    warnings = [
        element("p", f"Warning: {text}.", class_="verdict problem") for text in report.content.get("warnings", ())
    ]
    about = (
        f"{units.note} Data range {report.content['data_range']:g}, checkpoint {report.content['checkpoint']}. "
        f"Mean and 95 % interval over {units.word} (studentized bootstrap). Differences are this run minus the other, "
        "with Holm-corrected p of the Wilcoxon signed-rank test."
    )
    return [*warnings, *tables, element("p", about, class_="note")]


def headline(report: RunReport) -> tuple[str, str] | None:
    """The main metric's name and its mean over the fields, with the gain over the best baseline if there is one."""
    metric = main_metric(report)
    if metric is None:
        return None
    members = [member for member in report.restored if metric in report.restored[member]]
    methods = [
        method for method in methods_of([report]) if all(m in table for table in method.tables() for m in members)
    ]
    run = float(methods[0].values(metric, members, report.keys).mean())
    text = figure(metric, run)
    if len(methods) > 1:
        ranking = rank(metric, methods, members, units_of(report.keys, report.groups), against=0)
        other = next((place.method for place in ranking.places if place.method != 0), None)
        pair = None if other is None else ranking.pair(0, other)
        if pair is not None:
            gain = figure(metric, pair.interval.mean, signed=True)
            text += f", {gain} against {methods[pair.second].name} ({verdict(ranking, pair)})"
    return title(metric), text


def _table(report: RunReport, member: str, main: str, units: Units) -> Html:
    """The methods of one noisy field."""
    methods = [method for method in methods_of([report]) if all(member in table for table in method.tables())]
    shared = [name for name in methods[0].metrics([member]) if all(name in m.metrics([member]) for m in methods)]
    metrics = [name for name in (main, *shared) if name in shared]
    metrics = list(dict.fromkeys(metrics))[:SHOWN_METRICS]
    rows: list[dict[str, Content]] = []
    tests = _tests(methods, member, main, units)
    for number, method in enumerate(methods):
        row: dict[str, Content] = {"method": element("strong", method.name) if number == 0 else method.name}
        for metric in metrics:
            row[title(metric)] = _value(method, member, metric, units)
        rows.append(row | tests.get(number, {}))
    return table(rows, caption=f"Noisy images: {member}", class_="numbers")


def _value(method: Method, member: str, metric: str, units: Units) -> str:
    values = units.means(method.values(metric, [member], units.keys))[0]
    interval = mean_interval(values)
    if interval.low != interval.low:  # one unit
        return figure(metric, interval.mean)
    return f"{figure(metric, interval.mean)} ({figure(metric, interval.low)} to {figure(metric, interval.high)})"


def _tests(methods: Sequence[Method], member: str, metric: str, units: Units) -> dict[int, dict[str, Content]]:
    """Position of a baseline -> how this run compares with it."""
    if len(methods) < 2:
        return {}
    ranking = rank(metric, methods, [member], units, against=0)
    found: dict[int, dict[str, Content]] = {}
    for number in range(1, len(methods)):
        pair = ranking.pair(0, number)
        if pair is not None:
            low, high = (figure(metric, value, signed=True) for value in (pair.interval.low, pair.interval.high))
            mean = figure(metric, pair.interval.mean, signed=True)
            outcome = verdict(ranking, pair)
            mark = {"better": "ok", "worse": "problem"}.get(outcome, "open")
            found[number] = {
                f"difference in {title(metric)}": f"{mean} ({low} to {high})",
                "p": p_text(pair.p_holm),
                "this run is": element("span", outcome, class_=f"chip {mark}"),
            }
    return found
