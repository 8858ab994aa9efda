"""The files of this code, in a checkout or an installed package, and one fingerprint of all of them."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from quell.configs.support.paths import ROOT

ROOMS = ("configs", "launch", "losses", "models", "pipelines", "shards", "slurm")
PACKAGE = "quell"
FOLDERS = (*ROOMS, PACKAGE)
"""The folders of a checkout that hold the code."""
DATA = ("launch/zoo/weights",)
"""Folders among them whose files are data: weights that come with the code."""
SUFFIXES = (".py", ".yaml", ".yml", ".json", ".txt", ".csv", ".css", ".js")
"""Endings of the files that the code consists of."""


def contents(root: Path = ROOT) -> dict[str, bytes]:
    """The contents of the code's files by their path in a checkout, sorted, wherever they are.

    Args:
        root: The root of a checkout, or the folder of an installed package.
    """
    package = root / PACKAGE if (root / PACKAGE).is_dir() else root
    found = {name: content for room in ROOMS for name, content in _below(root / room, room).items()}
    return dict(sorted({**found, **_below(package, PACKAGE, without=ROOMS)}.items()))


def fingerprint(files: Mapping[str, bytes]) -> str:
    """Twelve hexadecimal digits, equal for equal names and contents."""
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(name.encode() + b"\0" + content + b"\0")
    return digest.hexdigest()[:12]


def _below(folder: Path, name: str, *, without: Iterable[str] = ()) -> dict[str, bytes]:
    """The contents of a folder's files by their path in a checkout, where it is called `name`."""
    found = {}
    for parent, folders, names in os.walk(folder):
        place = Path(name, os.path.relpath(parent, folder)).as_posix()
        skipped = {"__pycache__", *(f for f in folders if f"{place}/{f}" in DATA), *(without if place == name else ())}
        folders[:] = [inner for inner in folders if inner not in skipped]
        for file_name in names:
            file = Path(parent, file_name)
            if file_name.endswith(SUFFIXES) and file.is_file():  # an editor's lock file is a dangling link
                found[f"{place}/{file_name}"] = file.read_bytes()
    return found
