"""The log of a stage's job, followed as it grows."""

import sys
import time
from pathlib import Path

from configs.errors import ConfigError
from configs.support.suggestions import did_you_mean
from slurm.submission import client, executor
from slurm.submission.manifest import Manifest, SubmittedTask

_POLL_S = 0.5
_QUEUE_POLL_S = 2.0


def show(manifest: Manifest, root: Path, name: str, *, follow: bool) -> None:
    """Print the log of rank 0 of a task.

    Args:
        manifest: The submission.
        root: Its folder.
        name: `stage`, or `stage.member` of a sweep.
        follow: Whether to go on until the job ends.

    Raises:
        ConfigError: There is no such task, or it has no log.
    """
    stage, task = _find(manifest, name)
    if not task.job:
        raise ConfigError(f"'{name}' ran locally: its output went to the terminal that ran it")
    position, shown_reason = 0, ""
    while True:
        active, reason = _poll_queue(task) if follow else (False, "")
        if reason and reason != shown_reason:
            print(f"{name} is waiting: {reason}", file=sys.stderr, flush=True)
        shown_reason = reason
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


def _find(manifest: Manifest, name: str) -> tuple[str, SubmittedTask]:
    """The stage and the task of this name."""
    tasks = {task.name: (stage, task) for stage, submitted in manifest.stages.items() for task in submitted.tasks}
    if name not in tasks:
        raise ConfigError(f"no stage '{name}' was submitted; {did_you_mean(name, list(tasks))}")
    return tasks[name]


def _poll_queue(task: SubmittedTask) -> tuple[bool, str]:
    """Whether the job has not ended, and SLURM's reason why it is pending, if it is."""
    queued = client.queue().get(task.job)
    if queued is None or not queued.active:
        return False, ""
    time.sleep(_QUEUE_POLL_S)
    return True, queued.reason if queued.state == "PENDING" else ""


def _copy(file: Path, position: int) -> int:
    """Print a file from a position on; returns where it ends."""
    with file.open("rb") as log:
        log.seek(position)
        sys.stdout.write(log.read().decode(errors="replace"))
        sys.stdout.flush()
        return log.tell()
