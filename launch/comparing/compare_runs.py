"""The work of `quell compare`: from the names of runs to tables, plots and an exit code."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from quell.configs.errors import ConfigError, DataError, DivergedError, MachineError
from quell.configs.metric_names import can_rank, direction_of
from quell.configs.support import logs
from quell.configs.support.atomic_files import write_atomically
from quell.configs.support.json_files import strict_json
from quell.configs.support.paths import base, child_environment, import_folder, resolve
from quell.configs.support.suggestions import did_you_mean
from quell.launch.comparing import record, text
from quell.launch.comparing.comparison import Ranking, rank
from quell.launch.comparing.methods import Method, doubts, methods_of
from quell.launch.comparing.reports import REPORT_FILE, RunReport, find_report, read_report
from quell.launch.comparing.same_images import refuse_different_images, shared_members
from quell.launch.differences.units import units_of

log = logs.get_logger(__name__)


def compare(options: argparse.Namespace) -> int:
    """Compare as the parsed arguments ask, print the tables, write them and the plots; return the exit code."""
    named = _named(options.method or [])
    runs = [*options.runs, *(run for of_method in named.values() for run in of_method)]
    if not runs:
        raise ConfigError("there is nothing to compare: name the evaluated runs, or methods with --method NAME=RUN,RUN")
    reports = read_reports(runs, evaluate=options.evaluate)
    members = _members(reports, options.fields)
    refuse_different_images(reports, members)
    rest = iter(reports[len(options.runs) :])
    methods = methods_of(reports[: len(options.runs)], {name: [next(rest) for _ in of] for name, of in named.items()})
    methods = [method for method in methods if method.is_trained or not options.no_baselines]
    methods = [method for method in methods if _is_complete(method, members)]
    if len(methods) < 2:
        several = ", of which all these runs are seeds" if len(reports) > 1 else ""
        raise ConfigError(
            f"there is nothing to compare {methods[0].name} with{several}: name another run, evaluate with --baseline "
            "nlm, or say with --method NAME=RUN,RUN which runs are one method"
        )
    metrics = _metrics(methods, members, options.metrics)
    against = None if options.against is None else _position(options.against, methods)
    if options.require_better and against and len(methods) > 2:
        raise ConfigError(
            f"--require-better asks about {methods[0].name} and all others, which --against {options.against} does not "
            f"compare: give --against {methods[0].name}, or none"
        )
    units = units_of(reports[0].keys, {key: group for report in reports for key, group in report.groups.items()})
    rankings = [rank(metric, methods, members, units, against) for metric in metrics]
    notes = [_subject(reports, members), units.note, *doubts(methods), *_outdated(reports)]
    written = _write(rankings, against, members, notes, resolve(options.output), options)
    print(f"{text.markdown(rankings, against, notes)}\n" + "\n".join(map(str, written)), flush=True)
    if options.require_better and not is_best(rankings[0], 0):
        log.error("%s is not distinguishably better than all others", methods[0].name)
        return DivergedError.exit_code
    return 0


def read_reports(runs: Sequence[str], *, evaluate: bool) -> list[RunReport]:
    """The reports of runs, evaluating those that have none if asked to; ConfigError where one is named twice."""
    files = [find_report(run) for run in runs]
    if repeated := [file for i, file in enumerate(files) if file.resolve() in [f.resolve() for f in files[:i]]]:
        raise ConfigError(f"{repeated[0].parent} is named twice: give each run once")
    for file in files:
        if evaluate and file.name == REPORT_FILE and not file.is_file():
            _evaluate(file.parent)
    return [read_report(file) for file in files]


def is_best(ranking: Ranking, method: int) -> bool:
    """Whether a method is distinguishably better than every other one."""
    pairs = [ranking.pair(method, other) for other in range(len(ranking.methods)) if other != method]
    return all(pair is not None and text.verdict(pair) == "better" for pair in pairs)


def _evaluate(run: Path) -> None:
    """Evaluate a run in a process of its own."""
    command = [sys.executable, "-m", "quell.launch.evaluate", "--run", str(run), "--baseline", "noisy"]
    command += ["--baseline", "nlm", "--output", str(run / REPORT_FILE)]
    log.info("evaluating %s", run)
    env = {**child_environment(), "PYTHONPATH": str(import_folder())}
    code = subprocess.run(command, cwd=base(), env=env, check=False, stdout=subprocess.DEVNULL).returncode
    if code:
        raise DataError(f"{run} could not be evaluated (exit code {code}); the reason is above")


def _members(reports: Sequence[RunReport], wanted: Sequence[str] | None) -> list[str]:
    """The noisy members to compare."""
    members = shared_members(reports)
    if unknown := [name for name in wanted or () if name not in members]:
        raise ConfigError(f"--fields: no '{unknown[0]}' in these reports; {did_you_mean(unknown[0], members)}")
    return list(wanted or members)


def _is_complete(method: Method, members: Sequence[str]) -> bool:
    """Whether a method was measured on all the noisy members; a baseline of some reports may not have been."""
    return all(name in table for table in method.tables() for name in members)


def _metrics(methods: Sequence[Method], members: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    """The metrics to compare: those asked for, or all that every method has and that can rank."""
    by_method = {method.name: method.metrics(members) for method in methods}
    for metric in wanted or ():
        direction_of(metric)
        for name, measured in by_method.items():
            if metric not in measured:
                raise ConfigError(
                    f"--metrics: {name} was not measured with '{metric}', only with {', '.join(measured)}: evaluate it "
                    f"again with --metrics {' '.join(dict.fromkeys((*measured, metric)))}"
                )
    shared = [name for name in by_method[methods[0].name] if all(name in measured for measured in by_method.values())]
    chosen = list(wanted or filter(can_rank, shared))
    if not chosen:
        raise DataError("these reports have no metric in common that ranks methods: evaluate them with --metrics psnr")
    return chosen


def _named(texts: Sequence[str]) -> dict[str, list[str]]:
    """The methods of --method NAME=RUN,RUN: name -> runs."""
    named: dict[str, list[str]] = {}
    for given in texts:
        name, _, listed = given.partition("=")
        runs = [run for run in listed.split(",") if run]
        if not name or not runs or name in named:
            raise ConfigError(f"--method must be NAME=RUN,RUN,... with another NAME each time, got '{given}'")
        named[name] = runs
    return named


def _outdated(reports: Sequence[RunReport]) -> list[str]:
    """A sentence for each report of a checkpoint that is not the run's best any more."""
    return [
        f"{report.file} is of {report.content['checkpoint']}, while the best checkpoint of the run is {best} now: "
        "evaluate it again."
        for report in reports
        if (best := report.newer_best)
    ]


def _position(name: str, methods: Sequence[Method]) -> int:
    """The method that a user names: by its name, the folder or report of one of its runs, or a baseline's name."""
    path = resolve(name).resolve()
    exact = [number for number, method in enumerate(methods) if method.name == name]
    near = []
    for number, method in enumerate(methods):
        names = {method.baseline, *(report.name for report in method.reports if method.is_trained)}
        places = {place.resolve() for report in method.reports for place in (report.run, report.file)}
        if name in names or (method.is_trained and path in places):
            near.append(number)
    found, known = exact or near, [method.name for method in methods]
    if not found:
        raise ConfigError(f"--against: no '{name}' among what is compared; {did_you_mean(name, known)}")
    if len(found) > 1:
        listed = " or ".join(f"'{known[number]}'" for number in found)
        raise ConfigError(f"--against: '{name}' may be {listed}: give one of these names")
    return found[0]


def _subject(reports: Sequence[RunReport], members: Sequence[str]) -> str:
    """A sentence about what was measured."""
    content = reports[0].content
    each = members[0] if len(members) == 1 else f"{' and '.join(members)} (the mean of a sample's images)"
    return f"Noisy images {each} of {content['data']}, data range {content['data_range']:g}."


def _write(
    rankings: Sequence[Ranking],
    against: int | None,
    members: Sequence[str],
    notes: Sequence[str],
    folder: Path,
    options: argparse.Namespace,
) -> list[Path]:
    """Write comparison.md, .json and the plots; returns the files."""
    from quell.launch.comparing import plots  # imports matplotlib, which is slow

    try:
        folder.mkdir(parents=True, exist_ok=True)
        pictures = plots.draw(rankings[: options.plots], against, folder, options.format)
        links = "\n".join(f"![{picture.stem}]({picture.name})\n" for picture in pictures)
        markdown, data = folder / "comparison.md", folder / "comparison.json"
        write_atomically(markdown, f"{text.markdown(rankings, against, notes)}\n{links}")
        write_atomically(data, strict_json(record.as_json(rankings, members, notes)) + "\n")
    except OSError as error:
        raise MachineError(f"cannot write {folder} ({error.strerror}): choose another --output") from error
    return [markdown, data, *pictures]
