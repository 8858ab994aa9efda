"""Files that are replaced as a whole: a reader sees the old content or the new, never a part."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Replace a small file so that a reader sees the old or the new one, never a part.

    The bytes are the same on every platform: lines end with a line feed.

    Raises:
        OSError: With the name of the file, of which no half is left behind.
    """
    temporary = temporary_beside(path)
    with naming(path):
        try:
            temporary.write_text(text, encoding="utf-8", newline="\n")
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give errors of the operating system in the block the name of a file: writing to an open file has none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def temporary_beside(path: Path) -> Path:
    """A hidden file name in the folder of `path`, to be renamed to it once it is complete.

    Processes on different nodes may have the same process id and share the folder, hence the random part.
    """
    return path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
