"""Turning the errors of decoders into one sentence that names the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quell.configs.errors import DataError, QuellError

LONGEST = 160
"""Characters of a decoder's own message that are shown; some quote the whole file."""


def reason_of(error: Exception) -> str:
    """What a library says about an error: on one line, printable, and short."""
    text = " ".join(str(error).split()) or error.__class__.__name__
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def check_regular(path: Path) -> None:
    """Raise DataError for a folder, and for a pipe or device, which may never answer."""
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: not a regular file but a folder, pipe or device; give an image file")


@contextmanager
def reading(path: Path, problem: str) -> Iterator[None]:
    """Turn any error inside the `with` block into a DataError that names a file.

    Args:
        path: The file.
        problem: What to say about it: 'not a readable DICOM file'.

    Raises:
        DataError: Decoders raise errors of many types on damaged files, MemoryError among them.
    """
    try:
        yield
    except QuellError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except Exception as error:
        raise DataError(f"{path}: {problem} ({reason_of(error)})") from error
