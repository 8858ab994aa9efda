"""The project's root, and paths as a user writes them."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
"""The project's root; relative paths start here, so that nothing depends on the working directory."""


def resolve(path: str | Path) -> Path:
    """A path as the user means it: absolute, or from the project's root."""
    path = Path(os.path.expanduser(path))  # Path.expanduser raises where it finds no home
    return path if path.is_absolute() else ROOT / path
