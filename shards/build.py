"""Images of any origin -> shards: `python -m shards.build SOURCE --output DIR ...`, one file per source in sources/."""

import argparse
import importlib
import sys
from pathlib import Path
from types import ModuleType

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from configs.errors import ConfigError, run_command
from configs.support.suggestions import did_you_mean
from shards.building import assemble
from shards.format.index import IndexHeader

SOURCES = Path(__file__).resolve().parent / "sources"


def names() -> list[str]:
    """The sources there are: the public files of shards/sources."""
    return sorted(file.stem for file in SOURCES.glob("*.py") if not file.stem.startswith("_"))


def source(name: str) -> ModuleType:
    """The source's module, which has add_arguments(parser) and build(args). Raises ConfigError for an unknown name."""
    if name not in names():
        raise ConfigError(f"no source '{name}'; {did_you_mean(name, names())}")
    try:
        return importlib.import_module(f"shards.sources.{name}")
    except ModuleNotFoundError as error:
        raise ConfigError(f"source {name} needs the package '{error.name}': pip install it first") from error


def parse(arguments: list[str]) -> tuple[ModuleType, argparse.Namespace]:
    """The chosen source and its arguments."""
    parser = argparse.ArgumentParser(prog="python -m shards.build", description=__doc__.split(":")[0])
    parser.add_argument("source", help=", ".join(names()))
    if not arguments or arguments[0].startswith("-"):
        parser.parse_args(arguments)
    chosen = source(arguments[0])
    parser = argparse.ArgumentParser(
        prog=f"python -m shards.build {arguments[0]}",
        description=chosen.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    assemble.add_arguments(parser)
    chosen.add_arguments(parser)
    return chosen, parser.parse_args(arguments[1:])


def build(arguments: list[str]) -> dict[str, IndexHeader]:
    """Build as the command line says; returns split -> index header."""
    chosen, args = parse(arguments)
    headers: dict[str, IndexHeader] = chosen.build(args)
    return headers


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments

    def work() -> int:
        for split, header in build(words).items():
            size = sum(shard["size"] for shard in header["shards"])
            print(
                f"{split}: {header['samples']} samples in {len(header['shards'])} shard(s), {size / 1e6:.1f} MB, "
                f"fields {', '.join(header['fields'])}"
            )
        return 0

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
