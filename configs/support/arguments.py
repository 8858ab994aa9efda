"""Types of command-line arguments: numbers outside their range and broken patterns are refused in one sentence."""

import argparse
import math
import re
from collections.abc import Callable


def whole(least: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number of at least so much."""

    def read(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]+", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of {least} or more, got '{text}'")
        return int(text)

    return read


def real(*, above: float | None = None, least: float | None = None) -> Callable[[str], float]:
    """The type of an argument that is a finite number above a bound, or of at least so much."""
    wanted = f"above {above:g}" if above is not None else f"of {least:g} or more"

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        fits = value > above if above is not None else value >= (least or 0.0)
        if not fits or math.isinf(value):
            raise argparse.ArgumentTypeError(f"expected a number {wanted}, got '{text}'")
        return value

    return read


def pattern(groups: int = 0) -> Callable[[str], str]:
    """The type of an argument that is a regular expression of at least so many groups."""

    def read(text: str) -> str:
        try:
            found = re.compile(text).groups
        except re.error as error:
            raise argparse.ArgumentTypeError(f"expected a regular expression, got '{text}' ({error})") from error
        if found < groups:
            raise argparse.ArgumentTypeError(f"expected a regular expression with a group in (), got '{text}'")
        return text

    return read
