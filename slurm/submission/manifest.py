"""RUNS/stages.json: what was submitted, as which jobs, from which code; rewritten after every submission."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from quell.configs.errors import ConfigError, MachineError
from quell.configs.schema import Section
from quell.configs.support.atomic_files import write_atomically
from quell.configs.support.locks import Lock, try_lock
from quell.slurm.stages.schema import Condition
from quell.slurm.stages.task import Task
from quell.slurm.submission.client import QueuedJob

FILE = "stages.json"
_LOCK = ".lock"
_PATIENCE_S = 1.0
"""How long a submission waits for the lock: `is_locked` holds it for a moment."""


class SubmittedTask(Section):
    """One job, or one member of a job array."""

    name: str
    job: str = ""
    """SLURM's id, `12` or `12_0`; empty if it was run locally. The first of several jobs that continue one another."""
    later_jobs: tuple[str, ...] = ()
    """The jobs that continue it, in order."""
    kind: str
    run_dir: str
    folder: str
    digest: str

    @property
    def jobs(self) -> tuple[str, ...]:
        """Its job and those that continue it."""
        return (self.job, *self.later_jobs)

    @classmethod
    def of(cls, task: Task, jobs: Sequence[str]) -> "SubmittedTask":
        """A task that was submitted as these jobs, of which each continues the one before."""
        return cls(
            name=task.name, job=jobs[0], later_jobs=tuple(jobs[1:]), kind=task.kind, run_dir=task.run_dir,
            folder=task.folder, digest=task.digest,
        )  # fmt: skip


class SubmittedStage(Section):
    """A stage as it was last submitted."""

    job: str = ""
    """The id that dependent jobs wait for."""
    after: dict[str, Condition] = {}
    tasks: tuple[SubmittedTask, ...]
    earlier_jobs: tuple[str, ...] = ()
    """The jobs that this one continues, in order."""
    withdrawn: bool = False
    """Cancelled by `cancel`, or because a later stage could not be submitted."""

    def is_active(self, queue: Mapping[str, QueuedJob]) -> bool:
        """Whether a job of it has not ended."""
        return any(job in queue and queue[job].active for task in self.tasks for job in task.jobs)

    @property
    def last_first(self) -> tuple[str, ...]:
        """Its jobs in the order in which to cancel them: otherwise the next one would start."""
        return (self.job, *reversed(self.earlier_jobs))

    def in_queue(self, queue: Mapping[str, QueuedJob]) -> bool:
        """Whether a job of it has not ended and was not cancelled."""
        return not self.withdrawn and self.is_active(queue)


class Manifest(Section):
    """Everything that is known about a submission."""

    name: str
    executor: Literal["slurm", "local"]
    stage_file: str
    created: str
    commit: str
    """The git commit of the checkout, with a plus if files differed from it."""
    code: str
    """Folder of the code that runs."""
    stages: dict[str, SubmittedStage] = {}

    def tasks(self, stage: str) -> dict[str, SubmittedTask]:
        """The tasks of a stage by name; none if it was never submitted."""
        return {task.name: task for task in self.stages[stage].tasks} if stage in self.stages else {}

    def with_stage(
        self, name: str, after: Mapping[str, Condition], tasks: Sequence[Task], rounds: Sequence[Sequence[str]], *,
        keep: bool,
    ) -> "Manifest":  # fmt: skip
        """A copy in which the tasks of a stage were submitted as these jobs.

        Args:
            name: The stage.
            after: The stages it waits for.
            tasks: The submitted tasks.
            rounds: The job id of each task; again for each job that continues them. Empty ids if it is run locally.
            keep: Whether the stage keeps its other tasks from earlier submissions.
        """
        new = {task.name: SubmittedTask.of(task, jobs) for task, *jobs in zip(tasks, *rounds, strict=True)}
        kept = [task for task in self.tasks(name).values() if keep and task.name not in new]
        *earlier, last = [jobs[0].split("_")[0] for jobs in rounds]
        submitted = SubmittedStage(
            job=last, earlier_jobs=tuple(earlier), after=dict(after), tasks=(*kept, *new.values())
        )
        return self.model_copy(update={"stages": {**self.stages, name: submitted}})

    def with_cancelled(self, names: Iterable[str]) -> "Manifest":
        """A copy in which these stages are cancelled."""
        cancelled = {name: self.stages[name].model_copy(update={"withdrawn": True}) for name in names}
        return self.model_copy(update={"stages": {**self.stages, **cancelled}})

    def write(self, root: Path) -> None:
        """Replace the file atomically."""
        write_atomically(root / FILE, self.model_dump_json(indent=1) + "\n")


def continue_manifest(
    root: Path, *, name: str, executor: Literal["slurm", "local"], stage_file: Path, code: Path, commit: str
) -> Manifest:
    """The manifest of a new submission into a folder, with the stages of earlier ones; not written yet."""
    previous = read_manifest(root)
    return Manifest(
        name=name,
        executor=executor,
        stage_file=str(stage_file),
        created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        commit=commit,
        code=str(code),
        stages=previous.stages if previous else {},
    )


def read_manifest(root: Path) -> Manifest | None:
    """The manifest in a folder; None if nothing was submitted there. ConfigError if the file is damaged."""
    try:
        return Manifest.model_validate_json((root / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, not JSON, or not a manifest
        raise ConfigError(f"{root / FILE} is damaged: remove it and submit again (finished stages are kept)") from error


def require_manifest(root: Path) -> Manifest:
    """The manifest in a folder; ConfigError if nothing was submitted there."""
    manifest = read_manifest(root)
    if manifest is None:
        raise ConfigError(f"no {root / FILE}: nothing was submitted there, or the folder was removed")
    return manifest


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep other processes from submitting into this folder inside the block.

    Raises:
        MachineError: Another process is submitting into it, or it is not writable.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        file = (root / _LOCK).open("a")
    except OSError as error:
        raise MachineError(f"cannot write {root} ({error.strerror}): choose another --run-dir") from error
    with file:
        lock = try_lock(file, patience_s=_PATIENCE_S)
        if lock is Lock.UNSUPPORTED:
            raise MachineError(f"cannot lock {root / _LOCK}: its file system has no locks; choose another --run-dir")
        if lock is Lock.HELD_ELSEWHERE:
            raise MachineError(f"another process is submitting or running the stages in {root}")
        yield


def is_locked(root: Path) -> bool:
    """Whether a process is submitting into this folder, or running its stages locally.

    A shared lock, so that any number of processes may ask at the same time; a submission waits for them.
    """
    try:
        with (root / _LOCK).open() as file:
            return try_lock(file, shared=True) is not Lock.ACQUIRED
    except OSError:
        return False  # nothing was ever submitted here
