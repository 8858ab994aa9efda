"""Text files that a user names on the command line: lists of images, of pairs, of splits."""

from pathlib import Path

from quell.configs.errors import DataError


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file. Raises DataError naming the file."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read (not UTF-8 text)") from error
