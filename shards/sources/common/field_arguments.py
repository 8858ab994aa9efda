"""The --field arguments of sources that read several fields."""

import argparse

from quell.configs.errors import ConfigError


def add_field_argument(parser: argparse.ArgumentParser, metavar: str, help: str) -> None:
    """Add --field, which is required and may be repeated; `metavar` such as NAME=FOLDER."""
    parser.add_argument("--field", action="append", required=True, metavar=metavar, help=help)


def parse_fields(arguments: list[str], place: str = "FOLDER") -> dict[str, str]:
    """Field name -> place, from arguments NAME=PLACE. Raises ConfigError naming the argument that is something else."""
    places: dict[str, str] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals or not name.isidentifier() or name in places:
            raise ConfigError(f"--field {argument}: expected NAME={place}, with a different name for each field")
        places[name] = text
    return places
