"""Names of runs, run folders, and locations of data: what a user may write there, and what leads somewhere else."""

import os
import re
from pathlib import Path

from quell.configs.errors import ConfigError
from quell.configs.support.paths import base
from quell.configs.support.secrets import has_secret, mask

PROTOCOLS = ("s3", "s3a", "gs", "gcs", "hf", "az", "abfs", "abfss", "http", "https", "file", "memory")
"""Protocols of the URLs that data may be read from."""

_MAX_NAME, _MAX_PART = 1000, 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


def run_folder(text: str, *, start: Path | None = None) -> Path:
    """The folder that a --run-dir means; a relative one starts at `start`, by default at `base()`.

    Raises:
        ConfigError: It is relative and leaves that folder, or contains control characters.
    """
    start = start or base()
    problem = path_problem(text)
    path = start / os.path.expanduser(text) if problem is None else start
    if problem is None and not os.path.isabs(os.path.expanduser(text)) and not is_below(path, start):
        problem = f"'{text}' leads out of {start}: give the absolute path if that is meant"
    if problem is not None:
        raise ConfigError(f"--run-dir: {problem}")
    return path


def is_below(path: Path, folder: Path) -> bool:
    """Whether a path stays inside a folder once its `..` are taken; links are not followed."""
    return Path(os.path.normpath(path)).is_relative_to(os.path.normpath(folder))


def path_problem(text: str) -> str | None:
    """Why a text is not usable as a path, or None: it becomes part of scripts and logs, line by line."""
    if _CONTROL.search(text):
        return f"{text!r} contains a line break or another control character"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return f"{text!r} is not UTF-8 text"
    if not text.strip():
        return "the path is empty"
    return None


def name_problem(name: str) -> str | None:
    """Why a name, perhaps with sub-folders, does not name a folder below another one; None where it does."""
    if problem := path_problem(name):
        return problem.replace("the path", "the name")
    parts = name.split("/")
    if name.startswith(("/", "~", "-")) or name[0].isspace() or name[-1].isspace():
        return f"'{name}' names a folder below another one and must not begin with /, ~, - or a space"
    if ".." in parts or "." in parts or "" in parts:
        return f"'{name}' names a folder below another one: its parts must not be empty, '.' or '..'"
    if len(name) > _MAX_NAME or max(len(part.encode()) for part in parts) > _MAX_PART:
        return f"the name '{name[:40]}...' is too long for a folder ({len(name)} characters)"
    return None


def location_problem(location: str) -> str | None:
    """Why a text is neither a path nor a URL that data can be read from; None where it is."""
    if problem := path_problem(location):
        return mask(problem)
    protocol, separator, rest = location.partition("://")
    if not separator:
        protocol = location.partition(":/")[0]
        is_misspelt = protocol != location and protocol in PROTOCOLS
        return f"'{mask(location)}': a URL has two slashes after {protocol}:" if is_misspelt else None
    if protocol not in PROTOCOLS or "::" in location:
        return f"'{mask(location)}': unknown protocol; known: {', '.join(f'{name}://' for name in PROTOCOLS)}"
    if not rest.strip("/"):
        return f"'{location}': the URL names no folder"
    if has_secret(location):
        return (
            f"'{mask(location)}' contains credentials or a query, and configurations are copied into run folders and "
            "logs: give credentials to fsspec instead (environment variables, or ~/.config/fsspec; see docs/data.md)"
        )
    return None
