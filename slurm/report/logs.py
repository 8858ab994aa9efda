"""What a stage's job prints, as it comes."""

import sys
import time
from pathlib import Path

from configs.errors import ConfigError
from configs.support.suggestions import did_you_mean
from slurm.submission import client, executor
from slurm.submission.manifest import Manifest, SubmittedTask

_POLL_S = 0.5
_QUEUE_S = 2.0


def show(manifest: Manifest, root: Path, name: str, *, follow: bool) -> None:
    """Print the log of a stage (`stage` or `stage.member`), rank 0; with `follow` until its job ends.

    Raises ConfigError when there is no such stage, or no log of it.
    """
    stage, task = find(manifest, name)
    if not task.job:
        raise ConfigError(f"'{name}' ran locally: its output went to the terminal that ran it")
    position, said = 0, ""
    while True:
        active, waits = _active(task) if follow else (False, "")
        if waits and waits != said:
            print(f"{name} waits: {waits}", file=sys.stderr, flush=True)
        said = waits
        files = executor.log_files(root, stage, task.job)
        if files:
            position = _copy(files[0], position)
        elif not follow:
            raise ConfigError(
                f"no log of '{name}' in {root / 'logs' / stage / task.job}: it has not started yet, or was removed"
            )
        if not active:
            return
        time.sleep(_POLL_S)


def find(manifest: Manifest, name: str) -> tuple[str, SubmittedTask]:
    """The stage and task a name means; a sweep needs its member's name."""
    tasks = {task.name: (stage, task) for stage, entry in manifest.stages.items() for task in entry.tasks}
    if name not in tasks:
        raise ConfigError(f"no stage '{name}' was submitted; {did_you_mean(name, list(tasks))}")
    return tasks[name]


def _active(task: SubmittedTask) -> tuple[bool, str]:
    """Whether the job is in the queue, and SLURM's word for what it waits for."""
    queued = client.states().get(task.job)
    if queued is None or not queued.active:
        return False, ""
    time.sleep(_QUEUE_S)
    return True, queued.reason if queued.state == "PENDING" else ""


def _copy(file: Path, position: int) -> int:
    with file.open("rb") as opened:
        opened.seek(position)
        sys.stdout.write(opened.read().decode(errors="replace"))
        sys.stdout.flush()
        return opened.tell()
