"""Train one method from one YAML: `accelerate launch launch/train.py --config configs/NAME.yaml`."""

import sys
from pathlib import Path

if not __package__:  # started as a script: import the package around this file, then what is where the user is
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    import quell  # noqa: F401

    sys.path[0] = ""

from quell.configs import locations
from quell.configs.support.arguments import whole_number
from quell.launch import cli


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments, train, return the exit code (table in configs/errors.py)."""
    parser = cli.config_parser(__doc__ or "")
    parser.add_argument(
        "--resume",
        default="auto",
        metavar="auto|never|PATH",
        help="continue from the run folder's last checkpoint (auto), refuse to (never), or from PATH",
    )
    parser.add_argument(
        "--stop-at",
        type=whole_number(1),
        metavar="STEP",
        help="save a checkpoint at this step and stop there; the schedules stay those of the whole run",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the resolved run and its sizes, try the losses on two samples, then stop",
    )
    options = cli.parse(parser, arguments)

    def work() -> int:
        from quell.configs import loader

        config = loader.load(options.config, cli.overrides(options))
        if options.dry_run:
            from quell.launch.training import dry_run

            return dry_run.describe(config)
        from quell.launch.machine import ranks
        from quell.launch.training import run

        run_dir = locations.run_folder(options.run_dir or f"runs/{config.name}")
        with ranks.explained():
            return run.train(config, run_dir, mode=options.resume, stop_at=options.stop_at)

    return cli.run(work)


if __name__ == "__main__":
    cli.leave(main())
