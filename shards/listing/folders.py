"""The files of a folder that are read; everything else in it goes into the account of what is left out."""

import fnmatch
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from quell.configs.errors import DataError
from quell.shards.listing.left_out import leave_out

JUNK = (
    "._*",
    ".ds_store",
    ".localized",
    ".directory",
    "icon\r",
    "thumbs.db",
    "ehthumbs*.db",
    "desktop.ini",
    "dicomdir",
)
"""Names, in lower case, of files that operating systems and DICOM media put beside the images."""
JUNK_FOLDERS = (
    "__macosx",
    "@eadir",
    "lost+found",
    "system volume information",
    "$recycle.bin",
    ".git",
    ".ipynb_checkpoints",
    ".spotlight-v100",
    ".fseventsd",
    ".trash*",
    ".appledouble",
)
TEXT_SUFFIXES = (".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".xml", ".html", ".yaml", ".yml", ".pdf", ".log")
TEXT_NAMES = ("readme", "license", "licence", "changes", "copying", "authors", "citation")


def list_files(
    folder: Path, suffixes: Sequence[str], *, pattern: str = "*", recursive: bool = False, what: str = "files"
) -> list[Path]:
    """The files of a folder that have one of the suffixes, in name order.

    Broken links, hidden files, files of other types and, unless `recursive`, sub-folders are left out and noted. Links
    to files and folders are followed; a folder that is reached twice is read once.

    Args:
        folder: Where to look.
        suffixes: In lower case, with their dot; compared with the end of the lower-case name. '' stands for names
            without a dot.
        pattern: Only names that match this glob are looked at; the others are neither read nor noted.
        recursive: Whether to search sub-folders too.
        what: What the files are, for the message.

    Raises:
        DataError: There is no such folder, it cannot be listed, or no file is found.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    files = sorted(_walk(folder, suffixes, pattern, recursive, {os.path.realpath(folder)}))
    if not files:
        having = f"no {what} match {pattern}" if pattern != "*" else f"no {what}"
        names = " ".join(suffix or "(without a suffix)" for suffix in suffixes)
        raise DataError(f"{folder}: {having} (supported: {names})")
    return files


def is_junk(name: str) -> bool:
    """Whether a file or folder name is one that operating systems and DICOM media put beside the images."""
    return any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in (*JUNK, *JUNK_FOLDERS))


def has_suffix(name: str, suffixes: Sequence[str]) -> bool:
    """Whether a file name ends with one of the suffixes; see `list_files`."""
    lower = name.lower()
    return any(lower.endswith(suffix) if suffix else "." not in lower for suffix in suffixes)


def _walk(folder: Path, suffixes: Sequence[str], pattern: str, recursive: bool, visited: set[str]) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror})") from error
    for entry in entries:
        path = folder / entry.name
        if is_junk(entry.name):
            leave_out("junk file", path)
        elif path.is_dir():
            yield from _sub_folder(path, suffixes, pattern, recursive, visited)
        elif not fnmatch.fnmatchcase(entry.name, pattern):
            continue
        elif entry.is_symlink() and not path.exists():
            leave_out("broken link", path, f"to {os.readlink(path)}")
        elif entry.name.startswith("."):
            leave_out("hidden file", path)
        elif not path.is_file():
            leave_out("special file", path)
        elif has_suffix(entry.name, suffixes):
            yield path
        elif path.suffix.lower() in TEXT_SUFFIXES or path.stem.lower() in TEXT_NAMES:
            leave_out("text file", path)
        else:
            leave_out("file of another type", path)


def _sub_folder(
    path: Path, suffixes: Sequence[str], pattern: str, recursive: bool, visited: set[str]
) -> Iterator[Path]:
    real = os.path.realpath(path)
    if not recursive:
        if fnmatch.fnmatchcase(path.name, pattern):
            leave_out("sub-folder", path)
    elif path.name.startswith("."):
        leave_out("hidden folder", path)
    elif real in visited:
        leave_out("folder that is reached twice", path)
    else:
        visited.add(real)
        yield from _walk(path, suffixes, pattern, recursive, visited)
