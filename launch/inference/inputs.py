"""The inputs on denoise.py's command line as arrays that are restored together."""

import dataclasses
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from quell.configs.errors import ConfigError, DataError
from quell.configs.support.suggestions import did_you_mean
from quell.launch.inference.files.opened import OpenedFile

_FIELD_AND_FILE = re.compile(r"\w+=.+")


@dataclass(frozen=True)
class RestorationInput:
    """One argument of the command line: a file, or one file per field."""

    text: str
    """The argument as the user wrote it."""
    files: dict[str, Path]
    """Field -> file; the field is "" where the argument names none."""
    folder: Path = Path()
    """Where below the output folder its results go: where the file was below the folder that was searched."""
    found_by: str = ""
    """The argument whose folder was searched for it; empty where the user named it."""
    opened: dict[str, OpenedFile] = dataclasses.field(default_factory=dict)
    """Field -> what a program gave instead of a file; no file is then opened."""

    @property
    def is_found(self) -> bool:
        """Whether a folder was searched for it, rather than the user naming it."""
        return bool(self.found_by)

    @property
    def argument(self) -> str:
        """The argument that it comes from."""
        return self.found_by or self.text

    def file_of(self, field: str) -> Path:
        """The file that holds a field."""
        return self.files[field] if field in self.files else self.files[""]


class ArrayRef(NamedTuple):
    """One array of an opened file."""

    file: OpenedFile
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    @classmethod
    def all_of(cls, file: OpenedFile) -> "dict[str, ArrayRef]":
        """The arrays of a file by name."""
        return {name: cls(file, name, facts.shape, facts.dtype) for name, facts in file.facts.items()}


Arrays = dict[str, ArrayRef]
"""By the name of the array, or by field."""


class RestorationJob(NamedTuple):
    """Arrays that are restored together."""

    name: str
    """Name of the arrays inside their file; "" where the input holds one job only."""
    arrays: Arrays
    """Field -> array."""


def parse_input(text: str) -> RestorationInput:
    """Parse `FILE` or `field=FILE,field=FILE`; an existing file whose own name has that form counts as a file.

    Raises:
        ConfigError: A field without a file, or given twice; an empty text.
    """
    if not text.strip():
        raise ConfigError(
            "an input is empty (a variable of the shell that is not set?); give FILE, FOLDER or field=FILE"
        )
    if Path(text).exists() or not _FIELD_AND_FILE.match(text):
        return RestorationInput(text, {"": _path(text)})
    files: dict[str, Path] = {}
    for pair in text.split(","):
        field, _, file = pair.partition("=")
        if not field or not file or field in files:
            raise ConfigError(f"'{text}': images of several fields are given as pd=FILE,pdfs=FILE, each field once")
        files[field] = _path(file)
    return RestorationInput(text, files)


def _path(text: str) -> Path:
    """A path, with the home folder for a ~ that no shell has replaced."""
    return Path(os.path.expanduser(text))


def restoration_jobs(
    given: RestorationInput, contents: dict[str, Arrays], input_fields: dict[str, str], restored_fields: list[str]
) -> Iterator[RestorationJob]:
    """Group the arrays of an input into jobs.

    A file of several arrays holds either the fields by name or, for a method that restores one field, independent
    images. Where each field has its own file, arrays of the same name belong together.

    Args:
        given: The input, for error messages.
        contents: Field -> arrays in its file ("" where the input names no field).
        input_fields: Fields that the method can read -> their names in its training data.
        restored_fields: Fields that it restores, all of which a job must have.

    Raises:
        ConfigError: The input names a field that the method does not read.
        DataError: A field is missing, or the files have no array name in common.
    """
    if "" not in contents:
        yield from _jobs_of_several_files(given, contents, input_fields)
        return
    arrays = contents[""]
    by_field = {
        field: arrays[name]
        for field, member in input_fields.items()
        for name in dict.fromkeys((member, field))
        if name in arrays
    }
    if all(field in by_field for field in restored_fields):
        yield RestorationJob("", by_field)
    elif len(restored_fields) > 1:
        missing = ", ".join(field for field in restored_fields if field not in by_field)
        holds = f" (the file holds {', '.join(arrays)})" if "" not in arrays else ""
        pairs = ",".join(f"{field}=FILE" for field in restored_fields)
        raise DataError(
            f"{given.text}: this method restores {' and '.join(restored_fields)} together, but {missing} is missing"
            f"{holds}: give {pairs}, or one npz or h5 file with these names"
        )
    else:
        yield from (RestorationJob(name, {restored_fields[0]: array}) for name, array in arrays.items())


def _jobs_of_several_files(
    given: RestorationInput, contents: dict[str, Arrays], input_fields: dict[str, str]
) -> Iterator[RestorationJob]:
    """The jobs of an input that names a file per field."""
    for field in contents:
        if field not in input_fields:
            raise ConfigError(
                f"'{given.text}': this method does not read '{field}'; {did_you_mean(field, list(input_fields))}"
            )
    own = {field: arrays.get(field, arrays.get(input_fields[field])) for field, arrays in contents.items()}
    if all(array is not None for array in own.values()):
        yield RestorationJob("", {field: array for field, array in own.items() if array is not None})
        return
    if all(len(arrays) == 1 for arrays in contents.values()):
        yield RestorationJob("", {field: next(iter(arrays.values())) for field, arrays in contents.items()})
        return
    first, *rest = contents.values()
    common = [name for name in first if all(name in arrays for arrays in rest)]
    if not common:
        raise DataError(f"{given.text}: the files have no array name in common")
    yield from (RestorationJob(name, {field: arrays[name] for field, arrays in contents.items()}) for name in common)
