"""Write a run as a folder that others can load and publish: weights, configuration, and a model card."""

import argparse
import sys
from pathlib import Path

from quell.configs.support import paths
from quell.configs.support.arguments import CommandParser
from quell.launch import cli


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments and write the folder; return the exit code."""
    parser = CommandParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", help="run folder, or one checkpoint folder inside it")
    parser.add_argument("folder", metavar="DIR", help="a new folder")
    add_arguments(parser)
    parser.add_argument(
        "--which", choices=("best", "last", "average"), default="best", help="which checkpoint of the run"
    )
    options = cli.parse(parser, arguments)
    return cli.run(lambda: share(options, options.folder))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a model card asks for."""
    parser.add_argument(
        "--licence",
        "--license",
        metavar="NAME",
        help="licence of the weights, such as MIT (default: that of the training data)",
    )
    parser.add_argument(
        "--report", metavar="JSON", help="report.json with the card's results (default: RUN/report.json)"
    )


def share(options: argparse.Namespace, folder: str) -> int:
    """Write the folder that the parsed arguments ask for, and print it."""
    from quell.launch.sharing.writing.hub_folder import write_hub_folder  # imports torch: not for --help

    target = paths.resolve(folder)
    write_hub_folder(
        paths.resolve(options.run),
        target,
        which=options.which,
        licence=options.licence,
        report=Path(options.report) if options.report else None,
    )
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
