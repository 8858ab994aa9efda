"""What one job runs: written to the shared disk when the job is submitted, and read when it starts."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from quell.configs.errors import MachineError
from quell.configs.schema import Section
from quell.configs.support.paths import ROOT
from quell.slurm.stages.schema import Init, Pick, Stage
from quell.slurm.stages.site import Site
from quell.slurm.stages.sweep import run_dir


class Task(Section):
    """The work of one job, or of one member of a job array."""

    stage: str
    """Name of the stage."""
    member: str = ""
    """Name of the sweep's member; empty if the stage has only one task."""
    kind: Literal["train", "command", "pick"]
    """Train a configuration, run a command, or choose from a sweep."""
    arguments: tuple[str, ...] = ()
    """The arguments of `python`."""
    run_dir: str
    """Run folder that the task writes."""
    folder: str
    """Folder of the launcher's own records of the task."""
    code: str
    """Root of the code that runs, and its working folder: a snapshot, or the project itself."""
    environment: dict[str, str] = {}
    """Environment variables of the processes."""
    max_requeues: int = 0
    """How often the job may be requeued."""
    max_bad_nodes: int = 0
    """How many nodes the job may leave because it failed there."""
    starts: int = 1
    """Jobs that continue one another (see Continuation); 1 is a single job that is requeued."""
    time_min: int = 0
    """Time limit of one start in minutes."""
    grace_s: int = 0
    """How long before the time limit the job is signalled, in seconds."""
    wants_gpus: bool = False
    """Whether the job asked for GPUs, and must not compute without."""
    init_from: Init | None = None
    """Set if the weights come from the winner of a pick, which is known only when the job starts."""
    choices: dict[str, str] = {}
    """The choice.json of each pick that this task reads when it starts, by stage."""
    settings: tuple[str, ...] = ()
    """The `a.b=c` changes of the command line, which win over a winner's."""
    use: str | None = None
    """The pick whose winner's changes are applied."""
    pick: Pick | None = None
    """How to choose, for a pick."""
    candidates: dict[str, str] = {}
    """Run folders to choose from, by member."""
    changes: dict[str, tuple[str, ...]] = {}
    """The `a.b=c` overrides of each candidate."""
    digest: str = ""
    """Fingerprint of everything that determines the task's result."""

    @property
    def name(self) -> str:
        """`stage` or `stage.member`."""
        return task_name(self.stage, self.member)

    @property
    def file(self) -> Path:
        """Where the task is written."""
        return Path(self.folder) / "task.json"

    def write(self) -> None:
        """Write the task for the job to read."""
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        self.file.write_text(self.model_dump_json(indent=1, by_alias=True) + "\n", encoding="utf-8")


@dataclass
class StageTasks:
    """The tasks of one stage: a single one, or one for each member of a sweep."""

    tasks: list[Task] = field(default_factory=list)
    configs: dict[str, str] = field(default_factory=dict)
    """The resolved configuration of each training task as YAML, by task name."""
    problems: list[str] = field(default_factory=list)
    """Why the tasks could not run."""


def new_task(root: Path, site: Site, stage: Stage, name: str, member: str = "", **fields: Any) -> Task:
    """A task with what tasks of every kind have in common, and the given fields."""
    resources = stage.resources
    on_cpu = {} if resources.wants_gpus else {"ACCELERATE_USE_CPU": "true"}
    return Task(
        stage=name,
        member=member,
        run_dir=str(run_dir(root, name, member)),
        folder=str(root / "jobs" / task_name(name, member)),
        code=str(ROOT),
        environment={**on_cpu, **site.environment},
        max_requeues=stage.max_requeues,
        max_bad_nodes=stage.max_bad_nodes,
        starts=stage.continuation.starts if stage.continuation else 1,
        time_min=resources.time_min,
        grace_s=resources.grace_s,
        wants_gpus=resources.wants_gpus,
        **fields,
    )


def task_name(stage: str, member: str = "") -> str:
    """`stage`, or `stage.member` for a member of a sweep."""
    return f"{stage}.{member}" if member else stage


def read_task(file: str | Path) -> Task:
    """Read the task of a job.

    Raises:
        MachineError: The file is no longer there, or damaged.
    """
    try:
        return Task.model_validate_json(Path(file).read_text(encoding="utf-8"))
    except ValueError as error:
        raise MachineError(f"the job's task {file} is damaged: submit the stage again") from error
    except OSError as error:
        raise MachineError(
            f"cannot read the job's task {file} ({error.strerror}): its folder was moved or removed after submission; "
            "submit the stage again"
        ) from error


def digest(*values: object) -> str:
    """A short fingerprint of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]
