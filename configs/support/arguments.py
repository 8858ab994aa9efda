"""Command-line arguments: a parser that names commands as they are started, and types that refuse in one sentence."""

import argparse
import math
import os
import re
import sys
from collections.abc import Callable
from typing import Any

from quell.configs.support.suggestions import as_installed, as_started_here


class CommandParser(argparse.ArgumentParser):
    """argparse's parser, whose usage and help name commands as the user has started this one: `quell build SOURCE`."""

    def __init__(self, *, prog: str | None = None, **options: Any) -> None:
        """Take the options of argparse; `prog` is the command in a checkout, by default the name of the script."""
        script = os.path.basename(sys.argv[0])
        if prog is not None and script.startswith("quell "):
            prog = as_installed(prog)
        super().__init__(prog=prog or script, **options)

    def format_help(self) -> str:
        """The help, with the commands in it as they are started here."""
        return as_started_here(super().format_help())


def whole_number(minimum: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number of at least `minimum`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]+", text) or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"expected a whole number of {minimum} or more, got '{text}'")
        return int(text)

    return read


def real_number(*, above: float | None = None, least: float | None = None) -> Callable[[str], float]:
    """The type of an argument that is a finite number: larger than `above`, or else of at least `least` (default 0)."""
    expected = f"above {above:g}" if above is not None else f"of {least or 0.0:g} or more"

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        in_range = value > above if above is not None else value >= (least or 0.0)
        if not in_range or math.isinf(value):
            raise argparse.ArgumentTypeError(f"expected a number {expected}, got '{text}'")
        return value

    return read


def regular_expression(groups: int = 0) -> Callable[[str], str]:
    """The type of an argument that is a regular expression with at least `groups` groups."""

    def read(text: str) -> str:
        try:
            actual = re.compile(text).groups
        except re.error as error:
            raise argparse.ArgumentTypeError(f"expected a regular expression, got '{text}' ({error})") from error
        if actual < groups:
            raise argparse.ArgumentTypeError(f"expected a regular expression with a group in (), got '{text}'")
        return text

    return read
