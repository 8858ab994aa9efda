"""Whether a job that stopped may start again, and requeueing it under its own id, without nodes that failed it."""

import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from quell.configs.errors import EXIT_REQUEUE, DivergedError
from quell.slurm.node import records
from quell.slurm.node.records import Event, Outcome
from quell.slurm.stages.schema import EARLY_S
from quell.slurm.stages.task import Task

FRUITLESS_STARTS = 3
"""Starts that end by themselves without having saved anything, in a row, after which a job is given up."""

_TIMEOUT_S = 60
_AWAY_S = 300.0
"""How long to wait for a controller that does not answer: a job that ended meanwhile would not be requeued."""

_PAUSE_S = 5.0
_TRIES = 10
"""How often a question that a signal ended is asked again."""
_IS_AWAY = re.compile(r"Unable to contact slurm controller|Connection refused|timed out|did not answer")
_TIME_LIMIT_SIGNAL = "SIGUSR2"


class Refusal(NamedTuple):
    """Why a job does not start again, and the exit code it ends with."""

    reason: str
    exit_code: int


def outcome(task: Task, job: str, received: str | None) -> Outcome:
    """What the latest start of a job has come to, now that it stops.

    A start that saved a checkpoint got further, whatever its step: a run may have fallen back from a damaged one.

    Args:
        task: The job's task.
        job: Its id.
        received: The stop signal with which SLURM ended it; None if it ended by itself.

    Returns:
        `further`, `interrupted` where SLURM ended it before it had saved anything, or `fruitless` where it ended by
        itself or used its whole time for nothing, so that the next start would do the same.
    """
    starts = records.starts(task.folder, job)
    if task.kind != "train" or not starts or _saved_more(task, starts[-1]):
        return "further"
    used_all_time = received == _TIME_LIMIT_SIGNAL and _elapsed_s(starts[-1]) >= _usable_s(task)
    return "fruitless" if received is None or used_all_time else "interrupted"


def refusal(task: Task, job: str, latest: Outcome) -> Refusal | None:
    """Why a job whose latest start had this outcome may not be requeued; None if it may.

    It has been restarted too often, not counting starts that SLURM ended before they had saved anything, or several
    starts in a row came to nothing by themselves.
    """
    *earlier, _ = _outcomes(records.history(task.folder, job))
    outcomes = [*earlier, latest]
    count = sum(one != "interrupted" for one in outcomes)
    if count > task.max_requeues:
        return Refusal(f"started {count} times, and max_requeues is {task.max_requeues}", EXIT_REQUEUE)
    fruitless = _fruitless_in_a_row(outcomes)
    if latest == "fruitless" and fruitless >= FRUITLESS_STARTS:
        step = records.saved_step(task.run_dir)
        return Refusal(
            f"no progress: {fruitless} starts in a row ended without having saved anything, at step {step}; if they "
            f"used up their time, raise resources.time_min ({task.time_min})",
            DivergedError.exit_code,
        )
    return None


def obstacle(job: str) -> Refusal | None:
    """What SLURM would not requeue this job for; None if it would.

    A job that SLURM or its owner is already ending is left alone: requeueing a cancelled job would bring it back, and
    one that is being requeued starts again anyway.
    """
    properties, problem = _properties(job)
    if problem:
        return Refusal(problem, EXIT_REQUEUE)
    if properties.get("JobState") != "RUNNING":
        return Refusal(f"SLURM itself is ending this job (state {properties.get('JobState', 'unknown')})", EXIT_REQUEUE)
    if properties.get("Requeue") == "0":
        return Refusal("the job was submitted with --no-requeue", EXIT_REQUEUE)
    return None


def requeue(job: str) -> str:
    """Requeue a running job under the same id, so that jobs that depend on it stay valid; why it failed, or ''."""
    return _scontrol("requeue", job).problem


def exclude(jobs: Sequence[str], nodes: Sequence[str]) -> str:
    """Keep jobs that wait in the queue off some nodes, besides those they avoid already; why it failed, or ''."""
    for job in jobs:
        properties, problem = _properties(job)
        if problem:
            return problem
        earlier = properties.get("ExcNodeList", "(null)")
        all_nodes = [*([] if earlier == "(null)" else [earlier]), *nodes]
        if problem := _insist("update", f"JobId={job}", f"ExcNodeList={','.join(all_nodes)}").problem:
            return problem
    return ""


def _outcomes(history: Sequence[Event]) -> Iterator[Outcome]:
    """The outcome of each start in a job's history; one without a record of its end was killed."""
    starts = [index for index, event in enumerate(history) if event["event"] == "start"]
    for index, after in zip(starts, [*starts[1:], len(history)], strict=True):
        ending = history[after - 1]
        if ending is history[index]:
            yield "killed"
        elif "outcome" in ending:
            yield ending["outcome"]
        else:  # recorded by an earlier version
            yield "further" if ending.get("step", 0) > history[index]["step"] else "interrupted"


def _fruitless_in_a_row(outcomes: Sequence[Outcome]) -> int:
    """Fruitless starts since one got further; those that SLURM ended say nothing."""
    count = 0
    for one in reversed(outcomes):
        if one == "further":
            break
        count += one == "fruitless"
    return count


def _saved_more(task: Task, start: Event) -> bool:
    """Whether a checkpoint was written since a start."""
    if "checkpoints" not in start:
        return records.saved_step(task.run_dir) > start["step"]
    return bool(records.checkpoints(task.run_dir).items() - start["checkpoints"].items())


def _elapsed_s(start: Event) -> float:
    return time.time() - start["time"]


def _usable_s(task: Task) -> float:
    """How long a start may run before the signal of the time limit."""
    return 60 * task.time_min - task.grace_s - EARLY_S


class _Answer(NamedTuple):
    output: str
    problem: str
    """Empty on success."""
    was_killed: bool = False
    """Whether a signal ended scontrol: SLURM's own, which ends all processes of a job that is requeued."""


def _properties(job: str) -> tuple[dict[str, str], str]:
    """What SLURM says about a job, and why it says nothing."""
    output, problem, _ = _insist("show", "job", "-o", job)
    return dict(pair.partition("=")[::2] for pair in output.split()), problem


def _insist(*arguments: str) -> _Answer:
    """Ask again while the question is ended by the signals that SLURM sends to a job that was just requeued."""
    answer = _scontrol(*arguments)
    for _ in range(_TRIES):
        if not answer.was_killed:
            break
        time.sleep(_PAUSE_S / _TRIES)
        answer = _scontrol(*arguments)
    return answer


def _scontrol(*arguments: str) -> _Answer:
    """Ask SLURM's controller, and wait for one that is being restarted."""
    deadline = time.monotonic() + _AWAY_S
    while True:
        answer = _call_scontrol(*arguments)
        if not _IS_AWAY.search(answer.problem) or time.monotonic() > deadline:
            return answer
        time.sleep(_PAUSE_S)


def _call_scontrol(*arguments: str) -> _Answer:
    try:
        done = subprocess.run(["scontrol", *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S)
    except FileNotFoundError:
        return _Answer("", "scontrol is not on the node's PATH (in a container: bind it)")
    except subprocess.TimeoutExpired:
        return _Answer("", f"scontrol {arguments[0]} did not answer within {_TIMEOUT_S} s")
    problem = " ".join(done.stderr.split()) if done.returncode else ""
    return _Answer(done.stdout, problem, was_killed=done.returncode < 0)
