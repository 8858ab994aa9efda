"""Whether a job that stopped with a checkpoint goes back into the queue, and putting it there under its own id."""

import subprocess

from slurm.node import records
from slurm.stages.task import Task

_TIMEOUT_S = 60


def why_not(task: Task, job: str, step: int) -> str:
    """Why this job should not start again: too many restarts, or none of the last one's steps survived; else empty.

    A job may be stopped once before it saved anything. After that each start has to get further than the one before.
    """
    starts = [event for event in records.history(task.folder, job) if event["event"] == "start"]
    if len(starts) > task.max_requeues:
        return f"started {len(starts)} times, and max_requeues is {task.max_requeues}"
    if task.kind == "train" and len(starts) > 1 and step <= starts[-1]["step"]:
        return f"no progress between two requeues: still at step {step}"
    return ""


def stuck(task: Task, job: str, step: int) -> str:
    """Why a start should not go on: the one before was killed without getting any further; else empty."""
    starts = [event for event in records.history(task.folder, job) if event["event"] == "start"]
    if task.kind == "train" and len(starts) > 1 and step <= starts[-1]["step"]:
        return f"no progress between two requeues: still at step {step}"
    return ""


def put_back(job: str) -> str:
    """Requeue a running job under the same id, so that its dependents stay valid; why it was impossible, or empty.

    A job that SLURM or its owner is already ending is left alone: requeueing a cancelled job would bring it back.
    """
    state, problem = _scontrol("show", "job", "-o", job)
    if problem:
        return problem
    words = dict(word.partition("=")[::2] for word in state.split())
    if words.get("JobState") != "RUNNING":
        return f"SLURM is already ending this start (state {words.get('JobState', 'unknown')})"
    if words.get("Requeue") == "0":
        return "the job was submitted with --no-requeue"
    _, problem = _scontrol("requeue", job)
    return problem


def _scontrol(*words: str) -> tuple[str, str]:
    """Output and problem of a call."""
    try:
        done = subprocess.run(["scontrol", *words], capture_output=True, text=True, timeout=_TIMEOUT_S)
    except FileNotFoundError:
        return "", "scontrol is not on the node's PATH (in a container: bind it)"
    except subprocess.TimeoutExpired:
        return "", f"scontrol {words[0]} did not answer within {_TIMEOUT_S} s"
    return done.stdout, " ".join(done.stderr.split()) if done.returncode else ""
