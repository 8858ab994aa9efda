"""Build a data set of shards from one of several sources: `python -m shards.build SOURCE --output DIR ...`.

The sources are the files of shards/sources; `python -m shards.build SOURCE --help` describes each. A name with dots is
a module of the user's own (`my_sources.npy_files`).
"""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Protocol, cast

if not __package__:  # started as a script: import the package around this file, then what is where the user is
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    import quell  # noqa: F401

    sys.path[0] = ""

from quell.configs.errors import ConfigError, run_command
from quell.configs.support import logs
from quell.configs.support.arguments import CommandParser
from quell.configs.support.suggestions import did_you_mean
from quell.configs.support.worker_threads import end_process
from quell.shards.building.build_splits import Headers
from quell.shards.building.options import add_build_arguments
from quell.shards.listing.left_out import collect

SOURCES = Path(__file__).resolve().parent / "sources"


class SourceModule(Protocol):
    """What a file of shards/sources defines."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of this source."""

    def build(self, args: argparse.Namespace) -> Headers:
        """Write the splits; returns split -> index header."""


def source_names() -> list[str]:
    """The names of all sources."""
    return sorted(file.stem for file in SOURCES.glob("*.py") if not file.stem.startswith("_"))


def load_source(name: str) -> SourceModule:
    """Import a source: a file of shards/sources, or a module of the user's own where the name has dots.

    Raises:
        ConfigError: There is no such source, or a package that it needs is missing.
    """
    own = "." in name
    if not own and name not in source_names():
        raise ConfigError(f"unknown source '{name}'; {did_you_mean(name, source_names())}")
    try:
        return cast(SourceModule, importlib.import_module(name if own else f"quell.shards.sources.{name}"))
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the source '{name}' needs the package '{error.name}', which is not installed; pip install it"
        ) from error


def parse(arguments: list[str]) -> tuple[SourceModule, argparse.Namespace]:
    """The source that the first argument names, and its parsed arguments."""
    parser = CommandParser(prog="python -m shards.build", description=(__doc__ or "").split(":")[0])
    parser.add_argument("source", help=f"one of {', '.join(source_names())}; SOURCE --help describes it")
    if not arguments or arguments[0].startswith("-"):
        parser.parse_args(arguments)
    source = load_source(arguments[0])
    parser = CommandParser(
        prog=f"python -m shards.build {arguments[0]}",
        description=source.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_build_arguments(parser)
    logs.add_arguments(parser)
    source.add_arguments(parser)
    return source, parser.parse_args(arguments[1:])


def build(arguments: list[str]) -> Headers:
    """Build the splits that a command line asks for.

    Args:
        arguments: The name of a source and its arguments, such as ["phantom", "--output", "shards"].

    Returns:
        Split -> index header; empty with --dry-run.

    Raises:
        ConfigError: The arguments cannot be used.
        DataError: The input, or what is already in the output folder, cannot be used.
        MachineError: The output folder cannot be written.
    """
    source, args = parse(arguments)
    logs.configure(args)
    with collect():
        return source.build(args)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments

    def build_and_print() -> int:
        for split, header in build(words).items():
            size = sum(shard["size"] for shard in header["shards"])
            print(
                f"{split}: {header['samples']} samples in {len(header['shards'])} shard(s), {size / 1e6:.1f} MB, "
                f"fields {', '.join(header['fields'])}"
            )
        return 0

    return run_command(build_and_print)


if __name__ == "__main__":
    end_process(main())
