"""Where the code lies, and paths as a user writes them."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
"""The folder with `configs/`, `launch/` and the others: the root of a checkout, or the installed package."""

IS_INSTALLED = not (ROOT / "quell").is_dir()
"""Whether the code lies inside an installed package, where no user keeps data, rather than in a checkout."""

BASE_VARIABLE = "QUELL_BASE"
"""Environment variable with the folder in which relative paths start; set for processes that are started here."""

_SCRIPT_ROOMS = ("launch", "shards", "slurm")


def base() -> Path:
    """The folder in which relative paths start: the working directory; for a script of a checkout, the checkout.

    `python launch/train.py` means the same from every folder. For `quell train`, `python -m quell.launch.train` and
    `import quell` it does not matter where the code lies, so that a checkout is used as an installed package is.
    """
    if chosen := os.environ.get(BASE_VARIABLE):
        return Path(chosen)
    return ROOT if _is_script_of_checkout() else Path.cwd()


def child_environment() -> dict[str, str]:
    """The environment of a process that is to start relative paths where this one does, whatever it is started as."""
    return {**os.environ, BASE_VARIABLE: str(base())}


def _is_script_of_checkout() -> bool:
    """Whether this process was started by the path of a file of the code, as in `python launch/train.py`."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if IS_INSTALLED or file is None or getattr(main, "__package__", None):
        return False
    return any(Path(file).resolve().is_relative_to(ROOT / room) for room in _SCRIPT_ROOMS)


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
