"""Repeating a run from beginning to end: check, train, compare, report."""

import json
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

from quell.configs import loader
from quell.configs.errors import EXIT_DIFFERENT, EXIT_NOT_COMPARED, CheckpointError, ConfigError, DataError, QuellError
from quell.configs.fields import DRAWS
from quell.configs.schema import DataConfig
from quell.configs.support.atomic_files import write_atomically
from quell.configs.support.json_files import Record, strict_json
from quell.configs.support.logs import get_logger
from quell.configs.support.mappings import Settings
from quell.configs.support.paths import ROOT
from quell.launch.capsule.files import read_starts
from quell.launch.checkpoints import integrity, store
from quell.launch.checkpoints.layout import folder_name, step_folders, step_of
from quell.launch.repeating import comparison, earlier, text, training
from quell.launch.repeating.code import can_stop, code_of
from quell.launch.repeating.differences import differences_of, refuse_other_data
from quell.launch.repeating.history import Leg, data_of, legs, starts_of
from quell.launch.repeating.training import Planned, Repetition
from quell.launch.runs.folder import RunFolder
from quell.shards.format.fingerprint import same_content

REPORT_FILE = "repeat.json"

log = get_logger(__name__)


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    run: Path
    run_dir: Path
    steps: int | None = None
    """Step to train to; None for that of the run's newest checkpoint."""
    data_root: str | None = None
    check_only: bool = False
    with_code: bool = False
    """Train with the code of the run instead of the code that is here."""


def repeat(request: Request) -> int:
    """Check, train and compare as asked, and print the report.

    Returns:
        0 where every bit of the weights is the same (with `check_only`: where nothing differs), EXIT_DIFFERENT where
        one is not, EXIT_NOT_COMPARED where the run kept no weights of that step and nothing else differs.

    Raises:
        QuellError: The run cannot be repeated, or its repetition failed.
    """
    folder = RunFolder(request.run)
    folder.config()  # refuses what is no run folder, or has a configuration that this version does not know
    if request.run_dir.resolve() == request.run.resolve():
        raise ConfigError("--run-dir is the run itself: give another folder for its repetition")
    starts, last = starts_of(request.run), _newest(request.run)
    meta = store.read_meta(last) if last is not None else {}
    if not starts or last is None:
        raise CheckpointError(f"{request.run} has no checkpoint that could be repeated: train it first")
    end = request.steps or step_of(last) or 0
    if end > int(meta["step"]):
        raise ConfigError(f"--steps {end}: {request.run} was trained to step {meta['step']} only")
    parts = legs(starts, end)
    if not parts:
        raise ConfigError(f"--steps {end}: {request.run} began at step {min(start['step'] for start in starts)}")
    config = loader.read(folder.config_file)
    data_root = request.data_root or _recorded_root(starts[-1], config)
    repetition = Repetition(folder.config_file, config, request.run_dir, data_root)
    found, unknown = differences_of(request.run, parts)
    print(text.checked(request.run, parts, found, unknown))
    for sentence in _refuse_or_name(request, meta, config, parts, data_root):
        unknown.append(sentence)
        print(f"not known: {sentence}")
    if not (request.run / "checkpoints" / folder_name(end)).is_dir():
        print(text.no_weights(end, _steps_kept(request.run)))
    with tempfile.TemporaryDirectory(prefix="quell-code-") as temporary:
        planned = _commands(request, parts, repetition, Path(temporary), unknown)
        if request.check_only:
            print(text.commands(planned))
            return EXIT_DIFFERENT if found else 0
        trained = _step_reached(request.run_dir) < end
        if step_folders(request.run_dir / "checkpoints"):
            notes = earlier.refuse_other(request.run, request.run_dir, planned, continues=trained)
            unknown += notes
            print(text.earlier(request.run_dir, starts_of(request.run_dir)[-1], notes, continues=trained))
        for leg, command, _ in planned:
            if _step_reached(request.run_dir) < leg.end:
                log.info("$ %s", shlex.join(command))
                code = training.train(leg, command)
                if _step_reached(request.run_dir) < leg.end:
                    log.error("the repetition stopped before step %s; the same command continues it", leg.end)
                    return code or QuellError.exit_code
    facts = {"trained": trained, "differences": [row._asdict() for row in found], "unknown": unknown}
    return _compare(request, end, parts, facts)


def _refuse_or_name(
    request: Request,
    meta: Record,
    config: Settings,
    parts: list[Leg],
    data_root: str | None,
) -> list[str]:
    """Refuse other data, and a checkpoint that it began with and is gone; sentences on what is not known."""
    data = DataConfig.model_validate(config["data"])
    if data_root is not None:
        data = data.model_copy(update={"root": data_root})
    spans = [span for leg in parts for span in leg.spans()]
    _refuse_changed_data(request.run, spans)
    recorded = spans[-1][2].get("data") or {"train": {"fingerprint": meta.get("data")}}
    unknown = refuse_other_data(request.run, recorded, data)
    print("data: the same, by the indexes of their shards" if not unknown else "data: as far as known the same")
    if outside := training.continued_elsewhere(parts[0]):
        path = Path(str(outside.get("checkpoint", "")))
        if integrity.identity(path) != outside.get("identity"):
            raise CheckpointError(f"{request.run} began with the checkpoint {path}, which is not there any more")
    elif parts[0].begin > 0:
        raise CheckpointError(f"{request.run} did not record how it came to step {parts[0].begin}, where it began")
    draws = int(meta.get("draws", 1))
    if any(start.get("arithmetic", {}).get("draws", draws) < DRAWS for _, _, start in spans):
        unknown.append(
            "its random numbers were drawn by an earlier version in another way: new runs get others, and so other "
            "weights, unless --code trains with its own code"
        )
    return unknown


def _refuse_changed_data(run: Path, spans: list[tuple[int, int, Record]]) -> None:
    """DataError where a run was resumed with other data: a repetition reads one folder."""
    known: dict[str, str] = {}
    for begin, _, start in spans:
        for name, fingerprint in data_of(start).items():
            if name in known and not same_content(known[name], fingerprint):
                raise DataError(
                    f"{run} was resumed with other data of the split {name} at step {begin} "
                    f"(checkpoint.allow_other_data): it can be repeated as far as --steps {begin}, with the data before"
                )
            known[name] = fingerprint


def _commands(
    request: Request, parts: list[Leg], repetition: Repetition, temporary: Path, unknown: list[str]
) -> list[Planned]:
    """The command of every leg and the root of its code, which is checked out for --code."""
    commands = []
    for number, leg in enumerate(parts):
        code = ROOT
        if request.with_code:
            place = temporary / str(number)
            place.mkdir()
            code, notes = code_of(request.run, leg.start, place)
            for note in notes:
                log.warning("%s", note)
            unknown += notes
        stops = can_stop(code)
        if not stops and leg.end != RunFolder(request.run).summary().get("steps"):
            raise ConfigError(f"the code of {request.run} cannot stop at step {leg.end}: repeat it without --code")
        command = training.command_of(leg, repetition, code, is_first=number == 0, stops=stops)
        commands.append(Planned(leg, command, code))
    return commands


def _compare(request: Request, end: int, parts: list[Leg], facts: Record) -> int:
    """Compare weights and logs, print and write the report, which has these facts as well; the exit code."""
    recorded, repeated = (run / "checkpoints" / folder_name(end) for run in (request.run, request.run_dir))
    if not repeated.is_dir():
        raise CheckpointError(f"{request.run_dir} has no checkpoint of step {end} to compare with: it is another run")
    tensors = comparison.compare_checkpoints(recorded, repeated) if recorded.is_dir() else None
    before, now = (RunFolder(run).metrics_file for run in (request.run, request.run_dir))
    first, compared = comparison.first_difference(before, now, end)
    initial = [next((s.get("weights") for s in read_starts(run)), None) for run in (request.run, request.run_dir)]
    same_start = None if None in initial else initial[0] == initial[1]
    identical = comparison.is_identical(tensors, first, same_start)
    report: Record = {
        "run": str(request.run.resolve()),
        "step": end,
        "identical": identical,
        "weights_compared": tensors is not None,
        "steps_kept": _steps_kept(request.run),
        "tensors": {name: [row._asdict() for row in rows] for name, rows in (tensors or {}).items()},
        "first_difference": first and first._asdict(),
        "numbers_compared": compared,
        "same_initial_weights": same_start,
        "legs": [[leg.begin, leg.end] for leg in parts],
        **facts,
    }
    write_atomically(request.run_dir / REPORT_FILE, strict_json(json.loads(json.dumps(report))) + "\n")
    print(text.outcome(report, request.run_dir))
    return {True: 0, False: EXIT_DIFFERENT, None: EXIT_NOT_COMPARED}[identical]


def _recorded_root(start: Record, config: Settings) -> str | None:
    """Where the data were, for a configuration that names a relative folder: it may have been relative to another one.

    None where that is not known, or the data are not there any more.
    """
    root, path = str(config["data"]["root"]), str(start.get("data", {}).get("train", {}).get("path", ""))
    if "://" in root or Path(root).is_absolute() or not path:
        return None
    above = Path(path).parents[len(Path(config["data"]["train_split"]).parts) - 1]
    return str(above) if Path(path).is_absolute() and Path(path).is_dir() else None


def _steps_kept(run: Path) -> list[int]:
    return sorted(step_of(folder) or 0 for folder in step_folders(run / "checkpoints"))


def _newest(run: Path) -> Path | None:
    return next(iter(reversed(step_folders(run / "checkpoints"))), None)


def _step_reached(run: Path) -> int:
    newest = _newest(run)
    return 0 if newest is None else step_of(newest) or 0
