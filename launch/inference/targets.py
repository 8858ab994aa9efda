"""Where results go: one file per noisy file, decided and checked before the first is written."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from quell.configs.errors import ConfigError, DataError, MachineError
from quell.launch.inference.files.opened import OpenedFile, split_name
from quell.launch.inference.inputs import ArrayRef, RestorationInput, RestorationJob


class Part(NamedTuple):
    """One result inside a target."""

    name: str
    """Name in a file that holds arrays by name; otherwise ""."""
    job: int
    """Number of the job of its input."""
    output: str
    """Output of the method."""
    array: str
    """Name of the array in the source that it replaces."""


@dataclass
class Target:
    """One file to write."""

    path: Path
    source: OpenedFile
    """The noisy file, whose format and metadata it has."""
    parts: list[Part]
    is_same: bool
    """Whether it has the format of its source."""


class Targets:
    """Decides on the targets of all inputs, none of which may be an input or the target of another."""

    def __init__(self, folder: Path, format_: str, inputs: list[RestorationInput]) -> None:
        """Prepare to write to a folder.

        Args:
            folder: Created when the first file is written.
            format_: "same" as the noisy file's, or a suffix without its dot.
            inputs: All inputs, whose files must not be overwritten.
        """
        self._folder, self._format = folder, format_
        self._inputs = {path.resolve() for given in inputs for path in given.files.values()}
        self._taken: dict[Path, Path] = {}
        check_folder(folder)

    def of_input(self, given: RestorationInput, jobs: list[RestorationJob], outputs: dict[str, str]) -> list[Target]:
        """The targets of one input.

        Args:
            given: The input.
            jobs: Its jobs.
            outputs: Output name -> the noisy field that it restores.

        Raises:
            ConfigError: A result would replace an input or another result.
            DataError: Its format cannot hold the results.
        """
        targets: dict[Path, Target] = {}
        for number, job in enumerate(jobs):
            for output, field in outputs.items():
                ref = job.arrays[field]
                path, name = self._place(given, job, ref, output if len(outputs) > 1 else "", output)
                target = targets.setdefault(path, Target(path, ref.file, [], self._format == "same"))
                if any(part.name == name for part in target.parts):
                    raise _taken_twice(path, ref.file.path)
                target.parts.append(Part(name, number, output, ref.name))
        for target in targets.values():
            self._check(target)
        return list(targets.values())

    def _place(
        self, given: RestorationInput, job: RestorationJob, ref: ArrayRef, distinct_output: str, output: str
    ) -> tuple[Path, str]:
        """The file of a result, and its name in that file."""
        stem, suffix = split_name(ref.file.path)
        folder = self._folder / given.folder
        if self._format == "same" and ref.file.has_names:
            name = "_".join(filter(None, [job.name, distinct_output if job.name else output]))
            return folder / f"{stem}{suffix}", name
        if self._format != "same":
            suffix = f".{self._format}"
        parts = [stem, job.name.replace("/", "-"), distinct_output]
        return folder / ("_".join(filter(None, parts)) + suffix), ""

    def _check(self, target: Target) -> None:
        path = target.path
        if path.resolve() in self._inputs:
            raise ConfigError(f"{path} is an input and would be overwritten: choose another --output")
        if path in self._taken:
            raise _taken_twice(path, target.source.path)
        if path.is_dir() != (target.source.format == "zarr" and target.is_same) and path.exists():
            kind = "a folder" if path.is_dir() else "a file"
            raise MachineError(f"cannot write {path} ({kind} of this name exists): choose another --output")
        check_folder(path.parent)
        if target.is_same:
            target.source.check_writable()
        elif target.source.is_large and path.suffix == ".png":
            raise DataError(f"{target.source.path}: too large for PNG: choose --format tif, or the format it has")
        self._taken[path] = target.source.path


def check_folder(folder: Path) -> None:
    """Raise MachineError where a folder is not, and cannot become, one that can be written to."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise MachineError(f"cannot write {folder} ({existing} is a file): choose another --output")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise MachineError(f"cannot write {folder} (no permission for {existing}): choose another --output")


def _taken_twice(path: Path, source: Path) -> ConfigError:
    return ConfigError(f"two results would be written to {path}: rename {source}, or restore it separately")
