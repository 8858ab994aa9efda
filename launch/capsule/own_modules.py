"""Modules of the user's own that a method uses: neither this project's code nor installed packages nor Python's."""

import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from quell.configs.source_code.files import FOLDERS
from quell.configs.support.mappings import Settings
from quell.configs.support.paths import IS_INSTALLED, ROOT

MAX_BYTES = 200_000
"""Largest file of which the text is kept."""
MAX_FILES = 200
"""Most files: a library under development, which is named as a network's `target`, may have thousands."""

_INSTALLED = ("site-packages", "dist-packages")
_OF_PYTHON = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))


def own_modules(pipeline: Settings) -> dict[str, str]:
    """Path -> text of the loaded Python files of the user's own; empty where a method's settings name none.

    The files of the packages that are named come first, then those that may have been imported by them. A byte that is
    not UTF-8 becomes a lone surrogate (`read_source`).

    Args:
        pipeline: The section `pipeline` of a configuration, in which names with dots are modules.
    """
    packages = {name.split(".")[0] for name in _names(pipeline)}
    is_named = {
        Path(file): name.split(".")[0] in packages
        for name, module in sorted(sys.modules.items())
        if (file := getattr(module, "__file__", None))
    }
    own = [file for file in sorted(is_named, key=lambda file: (not is_named[file], file)) if _is_own(file)]
    if not any(is_named[file] for file in own):
        return {}
    kept = [file for file in own[:MAX_FILES] if file.stat().st_size <= MAX_BYTES]
    return {str(file): read_source(file) for file in kept}


def read_source(file: Path) -> str:
    """The text of a file, of which every byte can be had again, whatever its encoding."""
    return file.read_text("utf-8", errors="surrogateescape")


def _is_own(file: Path) -> bool:
    """Whether a Python file is the user's, who may keep it beside the folders of a checkout's code."""
    is_source = file.suffix == ".py" and file.is_absolute() and file.is_file()  # torch.ops says it is `_ops.py`
    if not is_source or set(_INSTALLED) & set(file.parts):
        return False
    place = file.resolve()
    if place.is_relative_to(ROOT):
        inside = place.relative_to(ROOT).parts
        return not IS_INSTALLED and inside[0] not in (*FOLDERS, "benchmarks", "docs", "tests")
    return not any(place.is_relative_to(folder) for folder in _OF_PYTHON)


def _names(value: object) -> Iterator[str]:
    """The names with dots in nested settings: keys, and values of `name` and `target`."""
    if isinstance(value, list | tuple):
        for inner in value:
            yield from _names(inner)
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        if "." in key:
            yield key
        if key in ("name", "target") and isinstance(inner, str) and "." in inner:
            yield inner
        yield from _names(inner)
