"""What the user names on denoise's command line -> arrays that belong together, and results -> files."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from configs.errors import ConfigError, DataError
from configs.support.suggestions import did_you_mean
from launch.inference import file_formats
from launch.inference.file_formats import CONTAINERS, Arrays

PAIRED = re.compile(r"\w+=.+")


@dataclass(frozen=True)
class Input:
    """One thing to restore: what the user wrote, and its files by field ("" where no field is named)."""

    text: str
    files: dict[str, Path]

    def file(self, field: str) -> Path:
        """The file that holds a field."""
        return self.files[field] if field in self.files else self.files[""]


def parse(text: str) -> Input:
    """`FILE` or `field=FILE,field=FILE`; a file whose own name looks like the latter counts as a file."""
    if Path(text).exists() or not PAIRED.match(text):
        return Input(text, {"": Path(text)})
    files: dict[str, Path] = {}
    for pair in text.split(","):
        field, _, file = pair.partition("=")
        if not field or not file or field in files:
            raise ConfigError(f"'{text}': several images of one thing are given as pd=FILE,pdfs=FILE, each name once")
        files[field] = Path(file)
    return Input(text, files)


def jobs(
    one: Input, images: dict[str, Arrays], fields: dict[str, str], restored: list[str]
) -> Iterator[tuple[str, Arrays]]:
    """(name, arrays by field) of each thing to restore in one input; the name is "" for the only one.

    `fields`: those the method can read, with the names they have in its training data; `restored`: those it restores.
    A file of several arrays holds either the fields by name or, for a method of one field, images one by one; files
    given per field that hold several arrays are paired by the arrays' names.
    """
    if "" not in images:
        yield from _paired(one, images, fields)
        return
    arrays = images[""]
    by_name = {
        field: arrays[name]
        for field, member in fields.items()
        for name in dict.fromkeys((member, field))
        if name in arrays
    }
    if all(field in by_name for field in restored):
        yield "", by_name
    elif len(restored) > 1:
        missing = ", ".join(field for field in restored if field not in by_name)
        holds = f" (it holds {', '.join(arrays)})" if "" not in arrays else ""
        pairs = ",".join(f"{field}=FILE" for field in restored)
        raise DataError(
            f"{one.text}: this method restores {' and '.join(restored)} together, but {missing} is missing"
            f"{holds}: give {pairs}, or one npz or h5 file with these names"
        )
    else:
        yield from ((name, {restored[0]: array}) for name, array in arrays.items())


class Targets:
    """Collects results and writes them, one file per noisy file, never over an input or over another result."""

    def __init__(self, folder: Path, format_: str, read: list[Path]) -> None:
        self.folder, self.format = folder, format_
        self.read = {path.resolve() for path in read}
        self.done: set[Path] = set()
        self.waiting: dict[Path, Arrays] = {}

    def add(self, one: Input, job: str, results: dict[str, tuple[str, np.ndarray]]) -> None:
        """Keep the results of one job, by output: (the noisy field it restores, array)."""
        many = len(results) > 1
        for output, (field, array) in results.items():
            source = one.file(field)
            suffix = file_formats.suffix_of(source) if self.format == "same" else f".{self.format}"
            if suffix in CONTAINERS:
                path = self.folder / f"{source.stem}{suffix}"
                name = "_".join(filter(None, [job, output if many or not job else ""]))
            else:
                parts = [source.stem, job.replace("/", "-"), output if many else ""]
                path, name = self.folder / ("_".join(filter(None, parts)) + suffix), ""
            if path.resolve() in self.read:
                raise ConfigError(f"{path} is an input and would be overwritten: choose another --output")
            if path in self.done or name in self.waiting.get(path, {}):
                raise ConfigError(f"two results would be written to {path}: rename {source}, or restore it on its own")
            self.waiting.setdefault(path, {})[name] = array

    def write(self, *, colour: bool, top: float) -> Iterator[Path]:
        """Write what was kept; the files written."""
        for path, arrays in self.waiting.items():
            yield from file_formats.write(path, arrays, colour=colour, top=top)
        self.done |= set(self.waiting)
        self.waiting = {}


def _paired(one: Input, images: dict[str, Arrays], fields: dict[str, str]) -> Iterator[tuple[str, Arrays]]:
    for field in images:
        if field not in fields:
            raise ConfigError(f"'{one.text}': this method reads no '{field}'; {did_you_mean(field, list(fields))}")
    own = {field: arrays.get(field, arrays.get(fields[field])) for field, arrays in images.items()}
    if all(array is not None for array in own.values()):
        yield "", {field: array for field, array in own.items() if array is not None}
        return
    if all(len(arrays) == 1 for arrays in images.values()):
        yield "", {field: next(iter(arrays.values())) for field, arrays in images.items()}
        return
    first, *others = images.values()
    common = [name for name in first if all(name in arrays for arrays in others)]
    if not common:
        raise DataError(f"{one.text}: these files have no array of one name in common")
    yield from ((name, {field: arrays[name] for field, arrays in images.items()}) for name in common)
