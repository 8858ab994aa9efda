"""Stages -> dependent SLURM jobs, or the same stages here: `python slurm/submit.py --stages configs/stages/NAME.yaml`.

With the name of a submission's folder: `status RUNS`, `cancel RUNS`, `logs RUNS STAGE`.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # started as a script: the folder on the path must be the project's, not slurm/
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from configs.errors import ConfigError, run_command
from configs.support.paths import ROOT
from configs.support.suggestions import did_you_mean

COMMANDS = ("status", "cancel", "logs")


def main(arguments: list[str] | None = None) -> int:
    """Do what the arguments say; the exit code (table in configs/errors.py)."""
    words = sys.argv[1:] if arguments is None else arguments
    options = _parser(words).parse_args(words)
    return run_command(lambda: int(options.run(options)))


def submit(options: argparse.Namespace) -> int:
    """Check everything, then print it (--dry-run), run it here (--local), or hand it to SLURM."""
    from configs.support import paths
    from slurm import local
    from slurm.report import render
    from slurm.stages import graph, plan, read
    from slurm.submission import manifest, snapshot
    from slurm.submission.chain import describe
    from slurm.submission.chain import submit as hand_in

    file = read.read(options.stages, settings=options.set, site=options.site)
    root = paths.resolve(options.run_dir or f"runs/{file.name}")
    made = plan.make(file, root)
    for chosen in filter(None, [options.only, options.start]):
        if chosen not in file.stages:
            raise ConfigError(f"no stage '{chosen}'; {did_you_mean(chosen, list(file.stages))}", source=file.name)
    names = graph.select(file.stages, only=options.only, start=options.start)
    if options.dry_run:
        print(render.dry_run(made, names), end="")
        return 0
    with manifest.locked(root):
        code = snapshot.take(root / "code")
        commit = snapshot.commit()
        made = plan.run_from(made, code, commit)
        kind = "local" if options.local else "slurm"
        fresh = describe(made, paths.resolve(options.stages), kind, code, commit)
        if options.local:
            return local.run(made, names, fresh)
        hand_in(made, names, fresh)
    print(f"python slurm/submit.py status {_shown(root)}")
    return 0


def status(options: argparse.Namespace) -> int:
    """Print the table."""
    from configs.support import paths
    from slurm.report import status
    from slurm.submission import manifest

    print(status.table(manifest.need(paths.resolve(options.folder))), end="")
    return 0


def cancel(options: argparse.Namespace) -> int:
    """Withdraw every job of the chain that has not ended."""
    from configs.support import paths
    from slurm.submission import client, manifest

    root = paths.resolve(options.folder)
    current = manifest.need(root)
    queue = client.states()
    active = [name for name, stage in current.stages.items() if stage.known_to(queue)]
    client.cancel(current.stages[name].job for name in active)
    for name in active:
        current = current.with_stage(name, current.stages[name].model_copy(update={"withdrawn": True}))
    current.write(root)
    print(f"cancelled: {', '.join(active)}" if active else "nothing to cancel: no job of this chain is in the queue")
    return 0


def logs(options: argparse.Namespace) -> int:
    """Print a stage's log, and go on as it grows."""
    from configs.support import paths
    from slurm.report import logs
    from slurm.submission import manifest

    root = paths.resolve(options.folder)
    logs.show(manifest.need(root), root, options.stage, follow=not options.no_follow)
    return 0


def _parser(words: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if words and words[0] in COMMANDS:
        commands = parser.add_subparsers(required=True)
        for name, function in (("status", status), ("cancel", cancel), ("logs", logs)):
            command = commands.add_parser(name, help=function.__doc__, allow_abbrev=False)
            command.add_argument("folder", metavar="RUNS", help="the submission's folder, e.g. runs/progressive")
            if name == "logs":
                command.add_argument("stage", metavar="STAGE", help="a stage, or sweep.member")
                command.add_argument("--no-follow", action="store_true", help="print what is there and stop")
            command.set_defaults(run=function)
        return parser
    parser.add_argument("--stages", required=True, metavar="YAML", help="e.g. configs/stages/progressive.yaml")
    parser.add_argument("--local", action="store_true", help="run the stages here, one after the other")
    parser.add_argument("--dry-run", action="store_true", help="print graph, scripts and configurations; write nothing")
    change = "change a key of every stage's configuration, or stages.*, resources.*, site.*, name"
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help=change)
    parser.add_argument("--only", metavar="STAGE", help="this stage alone")
    parser.add_argument("--from", dest="start", metavar="STAGE", help="this stage and all after it")
    parser.add_argument("--site", metavar="YAML", help="settings of the cluster; default $QUELL_SITE")
    parser.add_argument("--run-dir", metavar="DIR", help="where everything goes; default runs/<name>")
    parser.set_defaults(run=submit)
    return parser


def _shown(root: Path) -> str:
    return str(root.relative_to(ROOT)) if root.is_relative_to(ROOT) else str(root)


if __name__ == "__main__":
    sys.exit(main())
