"""Train several configurations one after another, evaluate each on the test split, and compare them in one table.

`launch/experiments.py --cross-domain --epochs 10` runs the five skip strategies, each in its own run folder; started
again, it continues where it stopped. `--study guided` runs the list in configs/studies/guided.yaml, `--only NAME` some
of its rows. The results are in OUTPUT/results.md, .csv and .png.
"""

import argparse
import shlex
import sys
from pathlib import Path

if not __package__:  # started as a script: import the package around this file, then what is where the user is
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    import quell  # noqa: F401

    sys.path[0] = ""

from quell.configs import studies
from quell.configs.errors import EXIT_REQUEUE, ConfigError, MachineError, QuellError
from quell.configs.support import child_process, logs, paths
from quell.configs.support.arguments import CommandParser, whole_number
from quell.launch import cli
from quell.launch.studies import results, table
from quell.launch.studies.experiment import Experiment
from quell.launch.studies.plan import Selection, plan

log = logs.get_logger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments and run the experiments; returns the exit code, that of the first failure if there is one."""
    options = cli.parse(_parser(), arguments)
    return cli.run(lambda: experiments(options))


def experiments(options: argparse.Namespace) -> int:
    """Run and compare as the parsed arguments ask; every configuration is checked before the first run starts."""
    study_folder = f"runs/studies/{Path(options.study).stem}" if options.study else None
    output = paths.resolve(options.output or study_folder or "runs/experiments")
    runs = plan(_selection(options), output)
    if options.dry_run:
        for run in runs:
            print("\n".join(shlex.join(command) for command in run.commands(options.processes).values()))
        return 0
    if options.summary:
        folders = [run.folder for run in runs] or sorted(file.parent for file in output.glob("*/config.yaml"))
        if not compare(folders, output):
            raise MachineError(f"no run in {output} has started: run the experiments without --summary first")
        return 0
    if not runs:
        raise ConfigError(
            "nothing to run: give --cross-domain, --loss-ablation, --all, --recipes, --study NAME or --configs FILE"
        )
    code = run_all(runs, processes=options.processes, continue_on_error=options.continue_on_error)
    if code != EXIT_REQUEUE:
        compare([run.folder for run in runs], output)
    return code


def run_all(runs: list[Experiment], *, processes: int, continue_on_error: bool) -> int:
    """Train and evaluate each run as far as it is not done yet.

    Returns:
        The exit code of the first failure, 0 if there is none. EXIT_REQUEUE at once if a run was interrupted.
    """
    first_failure = 0
    for number, run in enumerate(runs, 1):
        scripts = run.scripts_to_run()
        log.info("\n[%d/%d] %s: %s", number, len(runs), run.folder.name, "running" if scripts else "finished before")
        for script in scripts:
            code = child_process.run(run.commands(processes)[script], paths.child_environment())
            if not code:
                continue
            log.error("%s: %s ended with exit code %d", run.folder.name, script, code)
            if code == EXIT_REQUEUE:
                return code
            first_failure = first_failure or code
            if not continue_on_error:
                return first_failure
            break
    return first_failure


def compare(folders: list[Path], output: Path) -> bool:
    """Write and print the table of the runs in these folders; False if none of them has started."""
    runs = [run for run in map(_result, folders) if run is not None]
    if runs:
        print(f"\n{table.write(runs, output)}\n{output / 'results.md'}", flush=True)
    return bool(runs)


def _result(folder: Path) -> results.RunResult | None:
    """The results of a run; None, with a warning, where its folder is damaged, so that the others are compared."""
    try:
        return results.read_result(folder)
    except QuellError as error:
        log.warning("%s is left out: %s", folder.name, error)
        return None


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--cross-domain", action="store_true", help="run the five skip strategies")
    parser.add_argument("--loss-ablation", action="store_true", help="run the seven combinations of loss terms")
    parser.add_argument("--all", action="store_true", help="run both: twelve runs")
    parser.add_argument(
        "--recipes", action="store_true", help="run the documents' recommended recipes and the original setup"
    )
    parser.add_argument(
        "--configs", "--config", nargs="+", default=[], metavar="YAML", help="run these files, or names in configs/"
    )
    parser.add_argument("--study", metavar="NAME", help="run a list of runs: a file in configs/studies/, or a path")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these rows of the study")
    parser.add_argument("--epochs", type=float, metavar="N", help="short for loop.epochs=N in every run")
    parser.add_argument(
        "--seeds", type=whole_number(0), nargs="+", metavar="S", help="run each configuration once per seed"
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="folder for the run folders (default: runs/experiments, or runs/studies/NAME for a study)",
    )
    parser.add_argument(
        "--processes", type=whole_number(1), default=1, metavar="N", help="processes (GPUs) per run (default: 1)"
    )
    parser.add_argument("--continue-on-error", action="store_true", help="continue with the next run after a failure")
    parser.add_argument("--dry-run", action="store_true", help="print the commands without running them")
    parser.add_argument("--summary", action="store_true", help="only compare the runs in the output folder")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="override single settings in every run")
    return parser


def _selection(options: argparse.Namespace) -> Selection:
    """The runs that the parsed arguments select; --configs may be followed by overrides."""
    return Selection(
        configs=(
            *(studies.CROSS_DOMAIN if options.cross_domain or options.all else ()),
            *(studies.LOSS_ABLATION if options.loss_ablation or options.all else ()),
            *(studies.RECIPES if options.recipes else ()),
            *(word for word in options.configs if "=" not in word),
        ),
        study=options.study,
        only=tuple(options.only),
        overrides=(*(word for word in options.configs if "=" in word), *cli.overrides(options)),
        seeds=tuple(options.seeds or ()),
    )


if __name__ == "__main__":
    sys.exit(main())
