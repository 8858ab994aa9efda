"""Reading what `evaluate` has measured of a run."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quell.configs import registry
from quell.configs.baseline_names import BASELINES
from quell.configs.errors import DataError
from quell.configs.schema import RunConfig
from quell.configs.support.json_files import Record, number, parse_json
from quell.configs.support.paths import resolve
from quell.launch.checkpoints.best import read_best
from quell.launch.checkpoints.layout import folder_name, step_of
from quell.launch.runs.folder import RunFolder

REPORT_FILE = "report.json"

Values = dict[str, dict[str, float]]
"""Metric -> key of the sample -> value."""


@dataclass(frozen=True)
class RunReport:
    """A report.json, with its values ordered by what was restored rather than by the fields of the method."""

    file: Path
    run: Path
    """The run folder."""
    config: RunConfig
    content: Record
    keys: tuple[str, ...]
    """The samples, in the order of the split."""
    groups: dict[str, str]
    """Sample -> patient, subject or scene, where the shards say."""
    references: dict[str, str]
    """Sample -> what its images were compared with."""
    restored: dict[str, Values] = field(default_factory=dict)
    """Noisy member -> values of the images that the method restored from it."""
    noisy: dict[str, Values] = field(default_factory=dict)
    """Noisy member -> values of the noisy images themselves."""
    baselines: dict[str, dict[str, Values]] = field(default_factory=dict)
    """Baseline -> noisy member -> its values."""

    @property
    def name(self) -> str:
        """Of the run folder."""
        return self.run.name

    @property
    def which(self) -> str:
        """Which checkpoint was measured: best, last, average; or its name, where the report does not say."""
        checkpoint = str(self.content["checkpoint"])
        return checkpoint if checkpoint == "average" else str(self.content.get("which") or checkpoint)

    @property
    def newer_best(self) -> str:
        """The run's best checkpoint now, where the report is of one that was it; empty where it still is."""
        best, checkpoint = read_best(self.run / "checkpoints"), str(self.content["checkpoint"])
        if self.which in ("last", "average") or best is None or step_of(Path(checkpoint)) in (None, best["step"]):
            return ""
        return folder_name(best["step"])

    @property
    def clean_members(self) -> dict[str, str]:
        """Noisy member -> member of its ground truth."""
        outputs = self.content["outputs"].values()
        return {output["noisy"]: output["clean"] for output in outputs if output["primary"]}


def find_report(text: str) -> Path:
    """The report of a run folder, or the report file itself, as the user names it; it need not exist."""
    path = resolve(text)
    return path if path.suffix == ".json" else path / REPORT_FILE


def read_report(file: Path) -> RunReport:
    """Read a report and the configuration of its run.

    Raises:
        DataError: The report is missing, damaged, or of a version that did not record which data it measured.
        CheckpointError: The run folder has no configuration.
    """
    run = file.parent
    if not file.is_file():
        raise DataError(
            f"{run} has not been evaluated: it has no {file.name}; run `quell evaluate --run {run} --baseline nlm`, or "
            "add --evaluate"
        )
    content = _parsed(file)
    if not (run / "config.yaml").is_file():
        run = resolve(str(content.get("run", run)))
    if not isinstance(content.get("outputs"), dict) or not content.get("fingerprint"):
        raise DataError(
            f"{file} does not say which data it measured, as reports of older versions do not: run "
            f"`quell evaluate --run {run}` again"
        )
    rows: list[Record] = content["rows"]
    report = RunReport(
        file,
        run,
        RunFolder(run).config(),
        content,
        keys=tuple(row["key"] for row in rows),
        groups={row["key"]: row["group"] for row in rows if "group" in row},
        references={row["key"]: row.get("reference", "clean") for row in rows},
    )
    _fill(report, rows)
    return report


def _parsed(file: Path) -> Record:
    """The object in a report file; DataError where it is damaged."""
    try:
        content = parse_json(file.read_bytes())
        rows = content["rows"]
        if not rows or not all(isinstance(row, dict) and isinstance(row["key"], str) for row in rows):
            raise ValueError("it has no rows")
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = _reason(error)
        raise DataError(f"{file}: not a report of `quell evaluate` ({reason}): evaluate the run again") from error
    return content


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno} is not valid JSON"
    return f"missing {error}" if isinstance(error, KeyError) else str(error)


def _fill(report: RunReport, rows: list[Record]) -> None:
    """Sort the values of all rows by what they are values of."""
    metrics = [*registry.names("losses/metrics"), "risk"]
    outputs, renamed = report.content["outputs"], report.config.data.fields
    for row in rows:
        for name, value in row.items():
            subject, _, metric = name.rpartition("/")
            field_name, _, baseline = subject.partition("/")
            if subject in outputs and outputs[subject]["primary"]:
                of_noisy = metric.startswith("noisy_")
                metric = metric.removeprefix("noisy_")
                members = report.noisy if of_noisy else report.restored
                member = outputs[subject]["noisy"]
            elif baseline in BASELINES:
                members = report.baselines.setdefault(baseline, {})
                member = renamed.get(field_name, field_name)
            else:
                continue
            if metric in metrics:
                measured = number(value)
                values = members.setdefault(member, {}).setdefault(metric, {})
                values[row["key"]] = float("nan") if measured is None else measured


def describe(report: RunReport) -> dict[str, Any]:
    """What identifies a report, for the JSON of a comparison."""
    listed = ("run", "checkpoint", "method", "data", "data_range", "fingerprint", "images")
    return {
        "report": str(report.file),
        "seed": report.config.seed,
        "which": report.which,
        **{name: report.content[name] for name in listed},
    }
