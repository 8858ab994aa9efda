"""Types of command-line arguments: numbers outside their range and broken patterns are refused in one sentence."""

import argparse
import math
import re
from collections.abc import Callable


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
