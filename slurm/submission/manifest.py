"""runs/NAME/stages.json: what was submitted, as which jobs, from which code; rewritten after every submission."""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TextIO

from pydantic import ValidationError

from configs.errors import ConfigError, MachineError
from slurm.stages.schema import Condition, Section
from slurm.submission.client import Queued

FILE = "stages.json"
_LOCK = ".lock"
_TRIES, _PAUSE_S = 20, 0.05
"""How often, and after how long, a taken lock is tried again: whoever only looks at it lets go at once."""


class SubmittedTask(Section):
    """One job, or one member of an array."""

    name: str
    job: str = ""
    """SLURM's id, `12` or `12_0`; empty when run locally."""
    kind: str
    run_dir: str
    folder: str
    digest: str


class SubmittedStage(Section):
    """One stage as it was last submitted."""

    job: str = ""
    """Id that dependents wait for."""
    after: dict[str, Condition] = {}
    tasks: tuple[SubmittedTask, ...]
    withdrawn: bool = False
    """Cancelled by `cancel` or because a later stage could not be submitted."""

    def known_to(self, queue: Mapping[str, Queued]) -> bool:
        """Whether SLURM has a job of it that has not ended."""
        return any(task.job in queue and queue[task.job].active for task in self.tasks)

    def in_queue(self, queue: Mapping[str, Queued]) -> bool:
        """Whether a job of it waits or runs and was not told to end."""
        return not self.withdrawn and self.known_to(queue)


class Manifest(Section):
    """Everything known about one submission."""

    name: str
    executor: Literal["slurm", "local"]
    stage_file: str
    created: str
    commit: str
    """The checkout's git commit, with a plus when files differed from it."""
    code: str
    """Folder of the code that runs."""
    stages: dict[str, SubmittedStage] = {}

    def with_stage(self, name: str, stage: SubmittedStage) -> "Manifest":
        """The same with one stage new or replaced."""
        return self.model_copy(update={"stages": {**self.stages, name: stage}})

    def write(self, root: Path) -> None:
        """Replace the file in one piece."""
        temporary = root / f".{FILE}.{os.getpid()}"
        temporary.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, root / FILE)


def read(root: Path) -> Manifest | None:
    """What was submitted into a folder; None when nothing was. ConfigError when the file is damaged."""
    try:
        return Manifest.model_validate_json((root / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise ConfigError(f"{root / FILE} is damaged: remove it and submit again (finished stages are kept)") from error


def need(root: Path) -> Manifest:
    """What was submitted into a folder; ConfigError when nothing was."""
    manifest = read(root)
    if manifest is None:
        raise ConfigError(f"no {root / FILE}: nothing was submitted there, or the folder was removed")
    return manifest


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Nobody else submits into this folder meanwhile; MachineError when somebody does or it is not writable."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        file = (root / _LOCK).open("w")
    except OSError as error:
        raise MachineError(f"cannot write {root} ({error.strerror}): choose another --run-dir") from error
    with file:
        for _ in range(_TRIES):
            if _taken(file, fcntl.LOCK_EX):
                break
            time.sleep(_PAUSE_S)
        else:
            raise MachineError(f"another process is submitting or running the stages in {root}")
        yield


def is_locked(root: Path) -> bool:
    """Whether a process submits into this folder, or runs its stages locally, at this moment.

    Any number of processes may ask at once, and a submission waits for them: the lock is taken as a shared one.
    """
    try:
        with (root / _LOCK).open() as file:
            return not _taken(file, fcntl.LOCK_SH)
    except OSError:
        return False  # nobody ever submitted here


def _taken(file: TextIO, how: int) -> bool:
    """Take the lock of a file, until it is closed; false where another process has it."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
