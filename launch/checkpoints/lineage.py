"""The line of descent of a checkpoint: which others in the folder it comes from, and which belong to abandoned work.

Each fresh start, and each return to an older checkpoint (`--resume PATH`), begins a branch. meta.json lists under
`line` the branches that lead to the checkpoint. Checkpoints up to version 0.2 have no list: they are their run's trunk.
"""

import os
from pathlib import Path
from typing import TypedDict, cast

from quell.configs.support.json_files import Record, read_json
from quell.launch.checkpoints import integrity
from quell.launch.checkpoints.layout import META, step_folders


class Branch(TypedDict):
    """The start of a branch."""

    branch: str
    """A random name."""
    after: int
    """Step of the checkpoint that it starts from; 0 for a fresh start."""
    start: str
    """Identity of that checkpoint (`integrity.identity`); empty for a fresh start."""
    request: str
    """What the user asked to continue from: a resolved path; empty for a fresh start."""


Line = list[Branch]


def fresh() -> Line:
    """The line of a run that starts at step 0."""
    return [Branch(branch=os.urandom(6).hex(), after=0, start="", request="")]


def line_of(checkpoint: Path) -> Line:
    """The branches that lead to a checkpoint."""
    line = read_json(checkpoint / META).get("line")
    return cast(Line, line) if isinstance(line, list) else []


def branched(checkpoint: Path, step: int, request: Path) -> Line:
    """The line of a run that the user has return to a checkpoint."""
    identity = integrity.identity(checkpoint)
    start = Branch(branch=os.urandom(6).hex(), after=step, start=identity, request=str(request))
    return [*line_of(checkpoint), start]


def came_from(checkpoint: Path, start: Path | None, request: Path) -> bool:
    """Whether a checkpoint was saved after the user had asked for the same: to return to `start`, by that request.

    Args:
        checkpoint: A checkpoint of this run.
        start: The checkpoint that the request means now; None where it is gone.
        request: The path that the user gave. One of a run means whatever was its last checkpoint then.
    """
    identity = integrity.identity(start) if start is not None else None
    by_path = start is None or start.resolve() != request
    return any(
        entry["start"] == identity or (by_path and entry["request"] == str(request)) for entry in line_of(checkpoint)
    )


class Ancestry:
    """The line of descent of a checkpoint: itself, and the checkpoints that it comes from."""

    def __init__(self, checkpoint: Path) -> None:
        self._checkpoint, self._meta = checkpoint, read_json(checkpoint / META)
        self._identity, self._line = integrity.identity(checkpoint), line_of(checkpoint)

    def includes(self, other: Path) -> bool:
        """Whether another checkpoint is on the line; not where its meta.json cannot be read."""
        meta = read_json(other / META)
        if not meta or not self._meta:
            return False
        if integrity.identity(other) == self._identity:
            return True
        line = line_of(other)
        if not line and other.parent != self._checkpoint.parent:
            return False  # trunks of different runs cannot be told apart
        if self._line[: len(line)] != line:
            return False
        own_step = _step(self._meta)
        last = self._line[len(line)]["after"] if len(self._line) > len(line) else own_step - 1
        return _step(meta) <= last


def strangers(folder: Path, checkpoint: Path) -> list[Path]:
    """The checkpoints in a run's folder that `checkpoint` does not descend from, newest first."""
    ancestry = Ancestry(checkpoint)
    return [path for path in reversed(step_folders(folder)) if not ancestry.includes(path)]


def aside_folder(folder: Path, checkpoint: Path) -> Path:
    """A folder that does not exist yet, for what was saved after a checkpoint that a run returns to."""
    name, number = f"aside-after-{checkpoint.name}", 1
    while (aside := folder / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return aside


def set_aside(paths: list[Path], aside: Path) -> None:
    """Move checkpoints into the folder `aside`, which is created, newest first."""
    aside.mkdir(parents=True, exist_ok=True)
    for path in paths:
        os.rename(path, aside / path.name)


def _step(meta: Record) -> int:
    step = meta.get("step")
    return step if isinstance(step, int) else 0
