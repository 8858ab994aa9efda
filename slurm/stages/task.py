"""What one job runs, written down when it is submitted: a file on the shared disk that the job reads when it starts."""

import hashlib
import json
from pathlib import Path
from typing import Literal

from configs.errors import MachineError
from slurm.stages.schema import Init, Pick, Section


class Task(Section):
    """One job, or one member of an array."""

    stage: str
    """Name of the stage."""
    member: str = ""
    """Name of the sweep's member; empty when the stage is no sweep."""
    kind: Literal["train", "command", "pick"]
    """Train a configuration, run a command, or choose from a sweep."""
    arguments: tuple[str, ...] = ()
    """What follows `python`."""
    run_dir: str
    """Run folder the task writes."""
    folder: str
    """Folder of the launcher's own records of the task."""
    code: str
    """Root of the code that runs and its working folder: a snapshot, or the project itself."""
    environment: dict[str, str] = {}
    """Variables set for the process."""
    max_requeues: int = 0
    """Requeues before the job ends with its reason."""
    init_from: Init | None = None
    """Set when the weights come from the winner of a pick, which is known only when the job starts."""
    choices: dict[str, str] = {}
    """choice.json of each pick that this task reads when it starts, by stage."""
    use: str | None = None
    """The pick whose winner's changes are applied."""
    pick: Pick | None = None
    """What to choose by."""
    candidates: dict[str, str] = {}
    """Run folders to choose from, by member."""
    changes: dict[str, tuple[str, ...]] = {}
    """`a.b=c` changes of each candidate."""
    digest: str = ""
    """Of everything that decides what the task makes: equal digests make equal results."""

    @property
    def name(self) -> str:
        """`stage` or `stage.member`."""
        return f"{self.stage}.{self.member}" if self.member else self.stage

    @property
    def file(self) -> Path:
        """Where the task is written."""
        return Path(self.folder) / "task.json"

    def write(self) -> None:
        """Put the task on disk for the job to read."""
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        self.file.write_text(self.model_dump_json(indent=1, by_alias=True) + "\n", encoding="utf-8")


def read_task(file: str | Path) -> Task:
    """The task of a job; MachineError when the folder it was written in is gone."""
    try:
        return Task.model_validate_json(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise MachineError(
            f"the job's description {file} cannot be read ({error.strerror}): its folder was moved or removed after "
            "submission; submit the stage again"
        ) from error


def digest_of(*values: object) -> str:
    """A short fingerprint of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]
