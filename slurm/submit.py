"""Submit stages as dependent SLURM jobs, or run them here: `python slurm/submit.py --stages configs/stages/NAME.yaml`.

For a submission in the folder RUNS: `status RUNS`, `cancel RUNS`, `logs RUNS STAGE`.
"""

import argparse
import os
import sys
from pathlib import Path

if not __package__:  # started as a script: import the package around this file, then what is where the user is
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    import quell  # noqa: F401

    sys.path[0] = ""

from quell.configs.errors import ConfigError, MachineError, run_command
from quell.configs.locations import run_folder
from quell.configs.support.arguments import CommandParser
from quell.configs.support.logs import add_arguments, configure, get_logger
from quell.configs.support.paths import IS_INSTALLED, ROOT, base, from_here, resolve
from quell.configs.support.suggestions import did_you_mean

log = get_logger(__name__)

COMMANDS = ("status", "cancel", "logs")
"""What the first argument may be; without it stages are submitted."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit code (see configs/errors.py)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(arguments).parse_args(arguments)
    configure(options)
    return run_command(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    if os.name == "nt":
        raise MachineError(
            "SLURM does not run on Windows, and stages are not tested there: use this command on Linux, macOS or in "
            "WSL; `quell train` trains here"
        )
    return int(options.run(options))


def submit(options: argparse.Namespace) -> int:
    """Check the whole stage file, then print the plan (--dry-run), run it here (--local), or submit it to SLURM."""
    from quell.slurm import local
    from quell.slurm.report import render
    from quell.slurm.stages import graph, plan, read
    from quell.slurm.submission import chain, manifest, snapshot, start_checks

    stage_graph = read.read(options.stages, settings=options.set, site=options.site)
    root = _new_folder(options.run_dir) if options.run_dir else run_folder(f"runs/{stage_graph.name}")
    planned = plan.make(stage_graph, root)
    for name in filter(None, [options.only, options.start]):
        if name not in planned.stages:
            raise ConfigError(f"no stage '{name}'; {did_you_mean(name, list(planned.stages))}", source=planned.name)
    for note in stage_graph.notes:
        log.warning("%s", note)
    chosen = graph.select(stage_graph.stages, only=options.only, start=options.start)
    for name in chosen:
        for path in snapshot.unlinked_paths(planned.stages[name].settings.command):
            log.warning(
                "stages.%s.command: '%s' begins with a folder that %s does not have, so that the job would write it in "
                "its copy of the code: create %s/ first, or give the absolute path",
                name, path, base(), path.partition("/")[0],
            )  # fmt: skip
    start_checks.refuse_what_would_not_start(planned, chosen)
    if options.dry_run:
        shown = planned.from_snapshot(snapshot.location(root / "code"), commit="")
        print(render.dry_run(shown, chosen), end="")
        return 0
    with manifest.locked(root):
        code, commit = snapshot.take(root / "code"), snapshot.commit()
        planned = planned.from_snapshot(code, commit)
        submission = manifest.continue_manifest(
            root, name=planned.name, executor="local" if options.local else "slurm",
            stage_file=from_here(options.stages), code=code, commit=commit,
        )  # fmt: skip
        if options.local:
            return local.run(planned, chosen, submission)
        chain.submit(planned, chosen, submission)
    command = "quell submit" if IS_INSTALLED else f"python {_from_cwd(ROOT / 'slurm' / 'submit.py')}"
    log.info("follow it with: %s status %s", command, _from_cwd(root))
    return 0


def status(options: argparse.Namespace) -> int:
    """Print the state of every stage."""
    from quell.slurm.report import status

    try:
        status.show(from_here(options.folder), unfold=options.all, as_json=options.json, every_s=options.watch)
    except KeyboardInterrupt:
        if options.watch is None:
            raise
    return 0


def cancel(options: argparse.Namespace) -> int:
    """Cancel every job that has not ended."""
    from quell.slurm.submission import client, manifest

    root = from_here(options.folder)
    submission = manifest.require_manifest(root)
    queue = client.queue()
    active = [name for name, stage in submission.stages.items() if stage.is_active(queue)]
    client.cancel(job for name in active for job in submission.stages[name].last_first)
    submission.with_cancelled(active).write(root)
    print(f"cancelled: {', '.join(active)}" if active else "nothing to cancel: none of these stages is in the queue")
    return 0


def logs(options: argparse.Namespace) -> int:
    """Print a stage's log, and follow it until its job ends."""
    from quell.slurm.report import logs
    from quell.slurm.submission import manifest

    root = from_here(options.folder)
    logs.show(manifest.require_manifest(root), root, options.stage, follow=not options.no_follow, rank=options.rank)
    return 0


def _seconds(text: str) -> float:
    """The pause between two looks at the queue, which strains SLURM's controller."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"expected 1 to 86400 seconds, got '{text}'")
    return seconds


def _new_folder(text: str) -> Path:
    """The folder of a submission: in the current folder, or in the project where one was submitted under this name."""
    here = run_folder(text, start=Path.cwd())
    return here if os.path.exists(here) or not os.path.exists(resolve(text)) else run_folder(text)


def _from_cwd(path: Path) -> Path:
    """A path as short as it can be written in the current folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _parser(arguments: list[str]) -> argparse.ArgumentParser:
    parser = CommandParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if arguments and arguments[0] in COMMANDS:
        commands = parser.add_subparsers(required=True)
        for name, function in (("status", status), ("cancel", cancel), ("logs", logs)):
            command = commands.add_parser(name, help=function.__doc__, allow_abbrev=False)
            command.add_argument("folder", metavar="RUNS", help="the submission's folder, e.g. runs/progressive")
            if name == "logs":
                command.add_argument("stage", metavar="STAGE", help="a stage, or sweep.member")
                rank = "this rank's log; default: the rank that failed first, or 0"
                command.add_argument("--rank", type=int, metavar="N", help=rank)
                command.add_argument("--no-follow", action="store_true", help="print the log as it is now and exit")
            if name == "status":
                command.add_argument("--all", action="store_true", help="each member of a sweep in a line of its own")
                command.add_argument("--json", action="store_true", help="for programs, with times in seconds")
                watch = "again every so many seconds (10) until nothing runs or waits"
                command.add_argument("--watch", type=_seconds, nargs="?", const=10.0, metavar="S", help=watch)
            command.set_defaults(run=function)
        return parser
    parser.add_argument("--stages", required=True, metavar="YAML", help="e.g. configs/stages/progressive.yaml")
    parser.add_argument("--local", action="store_true", help="run the stages here, one after the other")
    parser.add_argument("--dry-run", action="store_true", help="print graph, scripts and configurations; write nothing")
    settings = "change a key of every stage's configuration, or stages.*, resources.*, site.* or name"
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help=settings)
    parser.add_argument("--only", metavar="STAGE", help="only this stage")
    parser.add_argument("--from", dest="start", metavar="STAGE", help="this stage and all that depend on it")
    parser.add_argument("--site", metavar="SITE", help="a site in configs/sites/, or a file; default $QUELL_SITE")
    parser.add_argument(
        "--run-dir", metavar="DIR", help="folder for everything that is written; default runs/<name> in the project"
    )
    add_arguments(parser)
    parser.set_defaults(run=submit)
    return parser


if __name__ == "__main__":
    sys.exit(main())
