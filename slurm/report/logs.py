"""The log of one rank of a stage's job, followed as it grows."""

import sys
import time
from pathlib import Path

from quell.configs.errors import ConfigError
from quell.configs.support.suggestions import did_you_mean
from quell.slurm.node import records
from quell.slurm.submission import client, job_logs, state
from quell.slurm.submission.manifest import Manifest, SubmittedTask

_POLL_S = 0.5
_QUEUE_POLL_S = 2.0


def show(manifest: Manifest, root: Path, name: str, *, follow: bool, rank: int | None = None) -> None:
    """Print the log of a task's rank.

    Args:
        manifest: The submission.
        root: Its folder.
        name: `stage`, or `stage.member` of a sweep.
        follow: Whether to go on until the job ends.
        rank: The rank; None is the one that failed first, or 0 where none has failed.

    Raises:
        ConfigError: There is no such task or rank, or it has no log.
    """
    stage, task = _find(manifest, name)
    if not task.job:
        raise ConfigError(f"'{name}' ran locally: its output went to the terminal that ran it")
    chain, task = task, state.latest(task, {})
    shown = _failed_rank(task) if rank is None else rank
    if rank is None and shown:
        _say(f"rank {shown} failed first, this is its log; --rank 0 shows that of rank 0")
    position, shown_reason = 0, ""
    while True:
        current, active, reason = _poll_queue(chain) if follow else (task, False, "")
        if reason and reason != shown_reason:
            _say(f"{name} is waiting: {reason}")
        shown_reason = reason
        if current.job != task.job:
            _say(f"{name} continues as job {current.job}")
            task, position = current, 0
        files = job_logs.files(root, stage, task.job)
        if shown in files:
            position = _copy(files[shown], position)
        elif not active:
            raise ConfigError(_no_log(root / "logs" / stage / task.job, name, shown, list(files)))
        if not active:
            break
        time.sleep(_POLL_S)
    if (failed := _failed_rank(task)) != shown and rank is None:
        _say(f"rank {failed} failed first: --rank {failed} shows its log")


def _failed_rank(task: SubmittedTask) -> int:
    """The rank whose failure is the cause of the others'; 0 where none has failed."""
    failure = records.first_failure(task.folder, task.job)
    return failure["rank"] if failure else 0


def _no_log(folder: Path, name: str, rank: int, ranks: list[int]) -> str:
    """Why there is nothing to show."""
    if ranks:
        return f"no rank {rank} of '{name}': it has the ranks {', '.join(map(str, ranks))}"
    return f"no log of '{name}' in {folder}: it has not started yet, or was removed"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _find(manifest: Manifest, name: str) -> tuple[str, SubmittedTask]:
    """The stage and the task of this name."""
    tasks = {task.name: (stage, task) for stage, submitted in manifest.stages.items() for task in submitted.tasks}
    if name not in tasks:
        raise ConfigError(f"no stage '{name}' was submitted; {did_you_mean(name, list(tasks))}")
    return tasks[name]


def _poll_queue(chain: SubmittedTask) -> tuple[SubmittedTask, bool, str]:
    """The task as its latest job, whether that has not ended, and SLURM's reason why it is pending, if it is."""
    queue = client.queue()
    task = state.latest(chain, queue)
    queued = queue.get(task.job)
    if queued is None or not queued.active:
        return task, False, ""
    time.sleep(_QUEUE_POLL_S)
    return task, True, queued.reason if queued.state == "PENDING" else ""


def _copy(file: Path, position: int) -> int:
    """Print a file from a position on; returns where it ends."""
    with file.open("rb") as log:
        log.seek(position)
        sys.stdout.write(log.read().decode(errors="replace"))
        sys.stdout.flush()
        return log.tell()
