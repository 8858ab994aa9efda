"""Files that are replaced as a whole: a reader sees the old content or the new, never a part."""

import os
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Replace a small file so that a reader sees the old or the new one, never a part."""
    temporary = temporary_beside(path)
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def temporary_beside(path: Path) -> Path:
    """A hidden file name in the folder of `path`, to be renamed to it once it is complete.

    Processes on different nodes may have the same process id and share the folder, hence the random part.
    """
    return path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
