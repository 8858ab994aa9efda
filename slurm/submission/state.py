"""The state of a task, from SLURM's queue, the launcher's records and the run folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quell.configs.errors import EXIT_REQUEUE
from quell.slurm.node import records
from quell.slurm.stages.schema import Condition
from quell.slurm.submission import job_logs
from quell.slurm.submission.client import QueuedJob
from quell.slurm.submission.manifest import Manifest, SubmittedTask, is_locked

FINISHED, RUNNING, WAITING, ENDING, FAILED, STOPPED, CANCELLED, SKIPPED, GONE = (
    "finished", "running", "waiting", "ending", "failed", "stopped", "cancelled", "skipped", "gone",
)  # fmt: skip
ACTIVE = (RUNNING, WAITING)
LOCAL_JOB = "local"
"""The job in the records of a task that was run locally."""

_PENDING_REASONS = {
    "Dependency": "for the stages before it",
    "JobHeldUser": "held: its submission was interrupted",
    "BeginTime": "to be started again",
    "launch failed requeued held": "held, because SLURM could not start it: submit again to release it",
}
"""What squeue's reasons mean for a stage."""


@dataclass(frozen=True)
class TaskStatus:
    """The state of a task, and the reason for it."""

    state: str
    reason: str = ""


def task_status(manifest: Manifest, stage: str, task: SubmittedTask, queue: Mapping[str, QueuedJob]) -> TaskStatus:
    """The state of a task of a stage; of the latest of several jobs that continue one another."""
    chain, task = task, latest(task, queue)
    queued = queue.get(task.job) if task.job else None
    if queued is not None and queued.active:
        if manifest.stages[stage].withdrawn:
            return TaskStatus(ENDING, "cancelled, but its job has not ended yet")
        return _in_queue(task, queued, chain)
    blocked = blocked_by(manifest, manifest.stages[stage].after)
    if not Path(task.folder).is_dir():
        return TaskStatus(SKIPPED, blocked) if blocked else TaskStatus(GONE, f"{task.folder} was removed")
    end = last_end(task)
    if end is not None and end["code"] == 0:
        if task.kind == "train" and not records.summary(task.run_dir):
            return TaskStatus(GONE, f"it finished, but its run folder {task.run_dir} was removed")
        return TaskStatus(FINISHED, "" if end["reason"] == "finished" else end["reason"])
    if ended := _ended(stage, task, end, queued):
        return ended
    if blocked:
        return TaskStatus(SKIPPED, blocked)
    return _without_end(stage, task, queued, withdrawn=manifest.stages[stage].withdrawn)


def latest(task: SubmittedTask, queue: Mapping[str, QueuedJob]) -> SubmittedTask:
    """The same task as its job that runs, waits next, or was the last to do anything."""
    active = [job for job in task.jobs if job in queue and queue[job].active]
    recorded = {event["job"] for event in records.history(task.folder)}
    done = [job for job in task.jobs if job in recorded]
    return task.model_copy(update={"job": active[0] if active else (done or task.jobs)[-1], "later_jobs": ()})


def is_finished(task: SubmittedTask) -> bool:
    """Whether the task has done its work, independent of what SLURM still remembers."""
    end = last_end(task)
    done = end is not None and end["code"] == 0
    return done and (task.kind != "train" or records.summary(task.run_dir).get("status") == "finished")


def stage_finished(manifest: Manifest, stage: str) -> bool:
    """Whether a stage was submitted and all its tasks are finished."""
    return stage in manifest.stages and all(map(is_finished, manifest.stages[stage].tasks))


def blocked_by(manifest: Manifest, waits_for: Mapping[str, Condition]) -> str:
    """Why a stage cannot run after what became of the stages it waits for; empty if it can, or if they may still run.

    Stages that were never submitted do not count.
    """
    for predecessor, condition in waits_for.items():
        if predecessor not in manifest.stages:
            continue
        finished = stage_finished(manifest, predecessor)
        if condition == "afterok" and not finished:
            return f"because {predecessor} did not finish"
        if condition == "afternotok" and finished:
            return f"not needed: {predecessor} finished"
    return ""


def last_end(task: SubmittedTask) -> records.Event | None:
    """The last event of the task's history if it is an end; None while the task is under way."""
    history = records.history(task.folder)
    if not history or history[-1]["event"] != "end":
        return None
    end = history[-1]
    if end["code"] and end["job"] not in (task.jobs if task.job else (LOCAL_JOB,)):
        return None  # the failure of an earlier submission
    return end


def _in_queue(task: SubmittedTask, queued: QueuedJob, chain: SubmittedTask) -> TaskStatus:
    starts = len(records.starts(task.folder, task.job))
    notes = _left_nodes(chain)
    if chain.later_jobs:
        notes = [f"job {chain.jobs.index(task.job) + 1} of {len(chain.jobs)}", *notes]
    if queued.state in ("RUNNING", "COMPLETING"):
        return TaskStatus(RUNNING, ", ".join([*([f"start {starts}"] if starts > 1 else []), *notes]))
    reason = _PENDING_REASONS.get(queued.reason, queued.reason)
    if chain.job != task.job and queued.reason == "Dependency":
        reason = "for the job before it"
    times = "once" if starts == 1 else f"{starts} times"
    return TaskStatus(WAITING, ", ".join([reason, *([f"requeued {times}"] if starts else []), *notes]))


def _left_nodes(task: SubmittedTask) -> list[str]:
    """The nodes that the task's jobs avoid since they failed there, and why."""
    events = [event for event in records.history(task.folder) if event["job"] in task.jobs and "excluded" in event]
    return [f"without {event['reason']}" for event in events]


def _ended(stage: str, task: SubmittedTask, end: records.Event | None, queued: QueuedJob | None) -> TaskStatus | None:
    """The status of a task that did not finish, by what it recorded about its end; None if it recorded nothing."""
    failure = records.first_failure(task.folder, task.job or LOCAL_JOB)
    if failure is not None:
        root, rank = Path(task.folder).parent.parent, failure["rank"]
        message = _error_line(failure["tail"]) or job_logs.cause(root, stage, task.job, rank) or "nothing printed"
        return TaskStatus(FAILED, f"rank {failure['rank']} on {failure['node']}, {failure['says']}: {message}")
    if end is None:
        return None
    if queued is not None and queued.state == "CANCELLED" and end["code"] == EXIT_REQUEUE:
        return TaskStatus(CANCELLED, f"with a checkpoint at step {end.get('step', '?')}")
    return TaskStatus(STOPPED if end["code"] == EXIT_REQUEUE else FAILED, end["reason"])


def _without_end(stage: str, task: SubmittedTask, queued: QueuedJob | None, *, withdrawn: bool) -> TaskStatus:
    """The status of a task that is not in the queue and recorded no end."""
    history = records.history(task.folder)
    started = bool(history)
    if withdrawn or (queued is not None and queued.state == "CANCELLED"):
        return TaskStatus(CANCELLED, "" if started else "before it started")
    root, was_running = Path(task.folder).parent.parent, started and history[-1]["event"] == "start"
    cause = job_logs.cause(root, stage, task.job, was_running=was_running) if task.job else ""
    if queued is not None and queued.state != "COMPLETED":
        says = f"SLURM reports {queued.state} ({queued.reason})"
        return TaskStatus(FAILED, f"{says}: {cause}" if cause else f"{says}; see the job's log")
    if not task.job:
        if not is_locked(root):
            return TaskStatus(STOPPED, "interrupted")
        return TaskStatus(RUNNING if started else WAITING)
    if not was_running:
        if cause:
            return TaskStatus(FAILED, f"job {task.job} ended before Python started: {cause}")
        return TaskStatus(GONE, f"job {task.job} left the queue without having started: see its log and sacct")
    says = f"job {task.job} exited without recording a status (killed?)"
    return TaskStatus(FAILED, f"{says}: {cause}" if cause else f"{says}: see its log and sacct")


def _error_line(tail: Sequence[object]) -> str:
    """The most informative line of a traceback or error message; empty where there is none."""
    texts = [line for line in tail if isinstance(line, str)]  # the record may be damaged
    errors = [line for line in texts if line.startswith(("error:", "rank ")) or "Error" in line]
    lines = errors or [line for line in texts if line.strip()] or [""]
    return lines[-1].strip()[:300]
