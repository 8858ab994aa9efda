"""The checks of a command's parser for values that a program gives."""

import numbers
from collections.abc import Sequence

from quell.configs.errors import ConfigError
from quell.configs.support.suggestions import did_you_mean


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """ConfigError for a value that is none of the choices."""
    if value not in choices:
        hint = did_you_mean(str(value), list(choices))
        raise ConfigError(f"{name}: expected one of {', '.join(choices)}, got {value!r}; {hint}")


def check_whole(name: str, value: object, minimum: int) -> None:
    """ConfigError for a value that is no whole number of at least `minimum`."""
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or int(value) < minimum:  # type: ignore[call-overload]
        raise ConfigError(f"{name}: expected a whole number of {minimum} or more, got {value!r}")
