"""Where the code lies, and paths as a user writes them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
"""The folder with `configs/`, `launch/` and the others: the root of a checkout, or the installed package."""

IS_INSTALLED = not (ROOT / "quell").is_dir()
"""Whether the code lies inside an installed package, where no user keeps data, rather than in a checkout."""

BASE_VARIABLE = "QUELL_BASE"
"""Environment variable with the folder in which relative paths start; set for processes that are started here."""

_working_folder: Path | None = None


def base() -> Path:
    """The folder in which relative paths start: a checkout's root, for an installed package the working directory."""
    if chosen := os.environ.get(BASE_VARIABLE):
        return Path(chosen)
    if _working_folder is not None:
        return _working_folder
    return Path.cwd() if IS_INSTALLED else ROOT


@contextmanager
def starting_here() -> Iterator[None]:
    """Inside the block relative paths start in the present working directory, also where the code is a checkout.

    For programs and notebooks that use this code from their own folder. The threads that start in the block see it too,
    which a context variable would not give.
    """
    global _working_folder
    before, _working_folder = _working_folder, Path.cwd()
    try:
        yield
    finally:
        _working_folder = before


def import_folder() -> Path:
    """The folder from which `import quell` finds this code, for the PYTHONPATH of other processes."""
    return ROOT.parent if IS_INSTALLED else ROOT


def resolve(path: str | Path) -> Path:
    """A path as the user means it: absolute, or from `base()`."""
    path = Path(os.path.expanduser(path))  # Path.expanduser raises where it finds no home
    return path if path.is_absolute() else base() / path


def from_here(path: str | Path) -> Path:
    """A path on the command line of a tool that is used from any folder: what is there, else from `base()` or the code.

    Files of the project (`configs/stages/progressive.yaml`) are found from everywhere, and one's own wherever one is.
    """
    expanded = Path(os.path.expanduser(path))
    here = Path.cwd() / expanded
    if os.path.exists(here):
        return here
    based = resolve(expanded)
    return ROOT / expanded if not os.path.exists(based) and os.path.exists(ROOT / expanded) else based
