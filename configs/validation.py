"""Pydantic's errors as sentences for the user: one per problem, with its dotted path and a hint."""

import re
from collections.abc import Callable, Sequence

from pydantic import ValidationError

from quell.configs.registry import SettingsError

_LONGEST_VALUE = 80


def explain(error: ValidationError, hint: Callable[[Sequence[str]], str], *, prefix: str = "") -> list[str]:
    """One sentence per problem.

    Args:
        error: What pydantic raised.
        hint: Suggests a correction for an unknown key, given the parts of its path.
        prefix: Where the validated data are in the whole file, e.g. `stages.warmup`.
    """
    sentences = []
    for item in error.errors():
        unknown = item["type"] == "extra_forbidden"
        path = _keys(item["loc"], keep_last=unknown)
        where = ".".join([prefix, *path] if prefix else path)
        inner = item.get("ctx", {}).get("error")
        if isinstance(inner, SettingsError):
            problems = inner.problems
        elif unknown:
            problems = [f"unknown key; {hint(path)}"]
        elif item["type"] == "missing":
            problems = ["missing"]
        elif item["type"] == "string_type" and isinstance(item["input"], bool | int | float):
            problems = [f"expected text, got {_as_yaml(item['input'])}: write it in quotes"]
        else:
            value = repr(item["input"])
            got = f" (got {value})" if len(value) < _LONGEST_VALUE else ""
            problems = [item["msg"].removeprefix("Value error, ") + got]
        sentences += [f"{where}: {problem}" if where else problem for problem in problems]
    return [" ".join(sentence.split()) for sentence in sentences]  # keys and values may contain line breaks


def _as_yaml(value: bool | int | float) -> str:
    """A value that YAML did not take for text, in words."""
    if isinstance(value, bool):
        return f"{str(value).lower()} (YAML reads {'yes and on' if value else 'no and off'} as that too)"
    return f"the number {value}"


def _keys(location: tuple[int | str, ...], *, keep_last: bool) -> list[str]:
    """The parts of a location that are keys; the last one of an unknown key is, even if it looks like a marker."""
    last = len(location) - 1
    return [str(part) for i, part in enumerate(location) if not _is_marker(part) or (keep_last and i == last)]


def _is_marker(part: int | str) -> bool:
    """Whether a part of a location is pydantic's own (the name of a union member or validator), not a key."""
    return isinstance(part, str) and bool(re.search(r"[\[(]|^(int|float|str|bool|none)$", part)) and "." not in part
