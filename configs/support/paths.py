"""The project's root, and paths as a user writes them."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
"""The project's root; relative paths start here, so that nothing depends on the working directory."""


def resolve(path: str | Path) -> Path:
    """A path as the user means it: absolute, or from the project's root."""
    path = Path(os.path.expanduser(path))  # Path.expanduser raises where it finds no home
    return path if path.is_absolute() else ROOT / path


def from_here(path: str | Path) -> Path:
    """A path on the command line of a tool that is used from any folder: what is there, else from the project's root.

    Files of the project (`configs/stages/progressive.yaml`) are found from everywhere, and one's own wherever one is.
    """
    expanded = Path(os.path.expanduser(path))
    here = Path.cwd() / expanded
    return here if os.path.exists(here) else resolve(expanded)
