"""The sections of the page that list facts: summary, findings, configuration, machine, data, checkpoints."""

import math
import shlex
import statistics
from collections.abc import Sequence
from datetime import datetime, timezone

from quell.configs.errors import QuellError
from quell.configs.loader import dump
from quell.configs.support.json_files import Record
from quell.launch.capsule import files as capsule
from quell.launch.run_report import results
from quell.launch.run_report.html import Content, Html, details, element, facts, table
from quell.launch.run_report.run_facts import RunFacts
from quell.launch.studies.results import active_minutes
from quell.pipelines.reporting.checks import Check, format_value

SHOWN_CHANGES = 200
"""Changed lines of the code that the page shows."""


def summary(run: RunFacts) -> Html:
    """The head of the page."""
    status = str(run.summary.get("status", "not started"))
    mark = {"finished": "ok", "running": "open", "interrupted": "open"}.get(status, "problem")
    step, steps = run.summary.get("step"), run.summary.get("steps")
    cards: list[tuple[str, str]] = []
    if run.report is not None and (found := results.headline(run.report)):
        cards.append(found)
    speeds = [event["step_ms"] for event in run.events if isinstance(event.get("step_ms"), int | float)]
    cards += [
        ("method", run.config.pipeline.name),
        ("steps", f"{step} of {steps}" if steps else str(step if step is not None else "none")),
        ("training time", _duration(60 * active_minutes(run.events))),
        ("time per step", f"{statistics.median(speeds):.3g} ms (median)" if speeds else ""),
        ("trained on", str(run.first_start.get("device_name", ""))),
    ]
    shown = [element("div", element("dt", name), element("dd", value)) for name, value in cards if value]
    warnings = run.summary.get("warnings")
    listed = [f"{name}: {text}" for name, text in warnings.items()] if isinstance(warnings, dict) else []
    error = run.summary.get("error")
    return element(
        "header",
        element("h1", run.name, " ", element("span", status, class_=f"chip {mark}")),
        element("dl", shown, class_="cards"),
        [element("p", str(error), class_="verdict problem")] if error else None,
        element("ul", [element("li", text) for text in listed], class_="warnings") if listed else None,
    )


def findings(checks: Sequence[Check], notes: Sequence[str]) -> list[Html]:
    """The diagnosis: problems first, all checks folded away."""
    problems = [check for check in checks if check.verdict == "problem"]
    said = f"{len(problems)} of {len(checks)} checks found a problem." if checks else "The run was not diagnosed."
    shown = [
        element(
            "p",
            element("strong", check.name),
            f": {format_value(check.value)}, where {check.threshold} is good. {check.advice}",
            class_="verdict problem",
        )
        for check in problems
    ]
    marks = {"ok": "ok", "problem": "problem"}
    rows: list[dict[str, Content]] = [
        {
            "verdict": element("span", check.verdict, class_=f"chip {marks.get(check.verdict, 'open')}"),
            "check": check.name,
            "value": format_value(check.value),
            "good": check.threshold,
            "what it means": check.advice,
        }
        for check in checks
    ]
    listed = details("All checks", table(rows, caption="Checks of the diagnosis")) if rows else None
    return [element("p", said), *shown, *(element("p", note) for note in notes), *([listed] if listed else [])]


def configuration(run: RunFacts) -> list[Html]:
    """The settings that differ from the defaults, and the whole configuration."""
    changed = {key: value for key, (value, differs) in run.settings.items() if differs and key != "name"}
    rows: list[dict[str, Content]] = [{"key": element("code", key), "value": _setting(v)} for key, v in changed.items()]
    lines = []
    every = run.settings
    for key, (value, differs) in every.items():
        line = f"{key}: {_setting(value)}\n"
        lines.append(element("mark", line) if differs else line)
    return [
        table(rows, caption="Settings that differ from the defaults") if rows else element("p", "All defaults."),
        details("Every setting, changed ones marked", element("pre", lines)),
        details("The same as YAML, for --config", element("pre", dump(run.config))),
    ]


def machine(run: RunFacts) -> list[Html]:
    """Where the run was trained, with which code, and what repeats it."""
    start, recorded = run.first_start, run.starts[0] if run.starts else {}
    code, computer, command = (_part(recorded, name) for name in ("code", "machine", "command"))
    words = command.get("words")
    typed = shlex.join(map(str, words)) if isinstance(words, list) and words else str(start.get("command", ""))
    devices = [str(device.get("name")) for device in computer.get("devices") or [] if isinstance(device, dict)]
    shown = facts(
        {
            "processor": _text(
                computer.get("cpu") or (start.get("device_name") if start.get("device") == "cpu" else "")
            ),
            "accelerators": ", ".join(devices)
            or ("" if start.get("device") == "cpu" else _text(start.get("device_name"))),
            "memory": f"{computer['memory_gib']:g} GiB" if computer.get("memory_gib") else "",
            "processes": _text(start.get("world")),
            "precision": _text(start.get("precision")),
            "seed": str(run.config.seed),
            "system": _text(computer.get("system")),
            "Python": _text(computer.get("python")),
            "PyTorch": _text(computer.get("torch")),
            "CUDA": _text(computer.get("cuda")),
            "Quell": _text(code.get("version")),
            "commit": element("code", _text(code.get("commit") or start.get("commit"))),
            "started": _date(start.get("time")),
            "starts": str(len(run.start_events)),
        }
    )
    return [
        shown,
        element("h3", "Command"),
        element("pre", typed or "not recorded"),
        *([element("p", f"in {command['folder']}", class_="note")] if command.get("folder") else []),
        element(
            "p", element("code", f"quell repeat {shlex.quote(run.name)}"), " trains the run once more and compares."
        ),
        *_code_and_packages(run, recorded, code),
    ]


def data(run: RunFacts) -> list[Html]:
    """The shards that were trained on and measured."""
    meta, recorded = run.last_meta(), run.starts[0] if run.starts else {}
    rows: list[dict[str, Content]] = []
    for name, split in _part(recorded, "data").items():
        if isinstance(split, dict):
            rows.append(_split_row(name, split.get("path"), split.get("samples"), split.get("fingerprint")))
    if not rows and meta:
        place = f"{run.config.data.root}/{run.config.data.train_split}"
        rows.append(_split_row(run.config.data.train_split, place, meta.get("samples"), meta.get("data")))
    if run.report is not None:
        content = run.report.content
        rows.append(_split_row("measured", content["data"], content["images"], content["fingerprint"]))
    notes = _part(_part(meta, "training_data"), "notes")
    return [
        table(rows, caption="Splits") if rows else element("p", "Nothing was recorded of the data."),
        facts({str(name): _text(value) for name, value in notes.items()}),
    ]


def checkpoints(run: RunFacts) -> list[Html]:
    """The checkpoints on disk."""
    found = run.checkpoints()
    metric = run.config.evaluation.metric
    rows: list[dict[str, Content]] = []
    for checkpoint in found:
        value = checkpoint.metrics.get(metric)
        best = element("span", "best", class_="chip ok") if checkpoint.is_best else ""
        shown = f"{value:.5g}" if isinstance(value, int | float) and math.isfinite(value) else "-"
        size = f"{checkpoint.size_mb:.1f} MB"
        rows.append({"checkpoint": checkpoint.name, f"validation {metric}": shown, "size": size, "": best})
    return [table(rows, caption="Checkpoints") if rows else element("p", "There is no complete checkpoint.")]


def _code_and_packages(run: RunFacts, recorded: Record, code: Record) -> list[Html]:
    """Changes of the code against its commit, and the versions of packages, as far as the capsule holds them."""
    shown = []
    for title, name in (("Changes against the commit", code.get("changes")), ("Packages", recorded.get("packages"))):
        part = capsule.read_part(run.folder.path, name)
        if part is not None:
            lines = part.decode(errors="replace").splitlines()
            cut = (
                f"\n... {len(lines) - SHOWN_CHANGES} more lines in capsule/{name}" if len(lines) > SHOWN_CHANGES else ""
            )
            text = "\n".join(lines[:SHOWN_CHANGES]) + cut
            shown.append(details(f"{title} ({len(lines)} lines)", element("pre", text)))
    variables = _part(recorded, "variables")
    if variables:
        text = "\n".join(f"{name}={value}" for name, value in variables.items())
        shown.append(details("Environment variables", element("pre", text)))
    return shown


def _split_row(name: str, path: object, samples: object, fingerprint: object) -> dict[str, Content]:
    mark = element("code", _text(fingerprint), class_="long")
    return {"split": name, "samples": _text(samples), "shards": _text(path), "fingerprint": mark}


def _part(record: Record, name: str) -> Record:
    """A mapping inside a record; empty where there is none."""
    value = record.get(name)
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _setting(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _date(time: object) -> str:
    if not isinstance(time, int | float):
        return ""
    return datetime.fromtimestamp(time, tz=timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def diagnose(run: RunFacts) -> tuple[Sequence[Check], Sequence[str]]:
    """The checks of `quell diagnose`, and notes on what it could not examine."""
    from quell.launch.diagnosis.examine import diagnose_run  # imports torch

    try:
        found = diagnose_run(run.folder.path, further_steps=0)
    except QuellError as error:
        return [], [str(error)]
    return found.checks, found.notes
