"""Whether a job that stopped with a checkpoint may start again, and requeueing it under its own id."""

import subprocess
from typing import NamedTuple

from configs.errors import EXIT_REQUEUE, DivergedError
from slurm.node import records
from slurm.stages.task import Task

_TIMEOUT_S = 60


class Refusal(NamedTuple):
    """Why a job does not start again, and the exit code it ends with."""

    reason: str
    exit_code: int


def refusal(task: Task, job: str, step: int) -> Refusal | None:
    """Why a job that stopped at `step` may not be requeued; None if it may.

    It has been restarted too often, or is stalled (see `stalled`).
    """
    count = len(records.starts(task.folder, job))
    if count > task.max_requeues:
        return Refusal(f"started {count} times, and max_requeues is {task.max_requeues}", EXIT_REQUEUE)
    return stalled(task, job, step)


def stalled(task: Task, job: str, step: int) -> Refusal | None:
    """Why a job at `step` should not go on: it got no further than its last recorded start; None if it did.

    A job may be stopped once before it has saved anything. From then on each start has to get further than the
    one before, or the job would be requeued for ever.
    """
    starts = records.starts(task.folder, job)
    if task.kind == "train" and len(starts) > 1 and step <= starts[-1]["step"]:
        return Refusal(f"no progress between two requeues: still at step {step}", DivergedError.exit_code)
    return None


def requeue(job: str) -> str:
    """Requeue a running job under the same id, so that the jobs that depend on it stay valid.

    A job that SLURM or its owner is already ending is left alone: requeueing a cancelled job would bring it back.

    Returns:
        Why this was not possible; empty on success.
    """
    output, problem = _scontrol("show", "job", "-o", job)
    if problem:
        return problem
    properties = dict(pair.partition("=")[::2] for pair in output.split())
    if properties.get("JobState") != "RUNNING":
        return f"SLURM is already ending this job (state {properties.get('JobState', 'unknown')})"
    if properties.get("Requeue") == "0":
        return "the job was submitted with --no-requeue"
    return _scontrol("requeue", job).problem


class _Answer(NamedTuple):
    output: str
    problem: str
    """Empty on success."""


def _scontrol(*arguments: str) -> _Answer:
    try:
        done = subprocess.run(["scontrol", *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S)
    except FileNotFoundError:
        return _Answer("", "scontrol is not on the node's PATH (in a container: bind it)")
    except subprocess.TimeoutExpired:
        return _Answer("", f"scontrol {arguments[0]} did not answer within {_TIMEOUT_S} s")
    return _Answer(done.stdout, " ".join(done.stderr.split()) if done.returncode else "")
