"""Modules of the user's own that a configuration names: neither this project's code nor installed packages."""

import sys
from collections.abc import Iterator
from pathlib import Path

from quell.configs.support.mappings import Settings

MAX_BYTES = 200_000
"""Largest file of which the text is kept."""
MAX_FILES = 200
"""Most files: a library under development, which is named as a network's `target`, may have thousands."""

_INSTALLED = ("site-packages", "dist-packages")


def own_modules(pipeline: Settings) -> dict[str, str]:
    """Path -> text of every loaded Python file of the packages that a method's settings name.

    Args:
        pipeline: The section `pipeline` of a configuration, in which names with dots are modules.
    """
    packages = {name.split(".")[0] for name in _names(pipeline)}
    files = [
        Path(file)
        for name, module in list(sys.modules.items())
        if name.split(".")[0] in packages and (file := getattr(module, "__file__", None))
    ]
    own = [file for file in sorted(files) if file.suffix == ".py" and not set(_INSTALLED) & set(file.parts)]
    kept = [file for file in own[:MAX_FILES] if file.is_file() and file.stat().st_size <= MAX_BYTES]
    return {str(file): file.read_text("utf-8") for file in kept}


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
