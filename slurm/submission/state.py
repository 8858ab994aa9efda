"""How a task stands, put together from SLURM's queue, the launcher's records and the run folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import EXIT_REQUEUE
from slurm.node import records
from slurm.submission.client import Queued
from slurm.submission.manifest import Manifest, SubmittedTask, is_locked

FINISHED, RUNNING, WAITING, ENDING, FAILED, STOPPED, CANCELLED, SKIPPED, GONE = (
    "finished", "running", "waiting", "ending", "failed", "stopped", "cancelled", "skipped", "gone",
)  # fmt: skip
ACTIVE = (RUNNING, WAITING)
LOCAL_JOB = "local"
"""What the records call a job that no queue knows."""


@dataclass(frozen=True)
class Standing:
    """One word for a task, and the reason in a sentence."""

    word: str
    why: str = ""


def of(manifest: Manifest, stage: str, task: SubmittedTask, queue: Mapping[str, Queued]) -> Standing:
    """How a task stands."""
    queued = queue.get(task.job) if task.job else None
    if queued is not None and queued.active:
        if manifest.stages[stage].withdrawn:
            return Standing(ENDING, "cancelled, and its job is not gone yet")
        return _in_queue(task, queued)
    if not Path(task.folder).is_dir():
        blocked = _blocked_by(manifest, stage)
        return Standing(SKIPPED, blocked) if blocked else Standing(GONE, f"{task.folder} was removed")
    end = last_end(task)
    if end is not None and end["code"] == 0:
        if task.kind == "train" and not records.summary(task.run_dir):
            return Standing(GONE, f"it finished, but its run folder {task.run_dir} was removed")
        return Standing(FINISHED, "" if end["reason"] == "finished" else end["reason"])
    return _not_finished(manifest, stage, task, end, queued)


def finished(task: SubmittedTask) -> bool:
    """Whether the task did its work, whatever SLURM still remembers."""
    end = last_end(task)
    done = end is not None and end["code"] == 0
    return done and (task.kind != "train" or records.summary(task.run_dir).get("status") == "finished")


def last_end(task: SubmittedTask) -> dict[str, Any] | None:
    """The last line of the task's history when it says that the task ended; None while it is under way."""
    history = records.history(task.folder)
    last = history[-1] if history else {}
    if last.get("event") != "end" or (last["code"] and last["job"] != (task.job or LOCAL_JOB)):
        return None  # under way, or the failure of an earlier submission
    return last


def _in_queue(task: SubmittedTask, queued: Queued) -> Standing:
    starts = sum(event["event"] == "start" for event in records.history(task.folder, task.job))
    if queued.state in ("RUNNING", "COMPLETING"):
        return Standing(RUNNING, f"start {starts}" if starts > 1 else "")
    why = {"Dependency": "for the stages before it", "JobHeldUser": "held: its submission was interrupted",
           "BeginTime": "to be started again"}.get(queued.reason, queued.reason)  # fmt: skip
    return Standing(WAITING, f"{why}, requeued {starts} times" if starts else why)


def _not_finished(
    manifest: Manifest, stage: str, task: SubmittedTask, end: dict[str, Any] | None, queued: Queued | None
) -> Standing:
    failure = records.first_failure(task.folder, task.job or LOCAL_JOB)
    if failure is not None:
        first = _error_line(failure["tail"])
        return Standing(FAILED, f"rank {failure['rank']} on {failure['node']}, {failure['says']}: {first}")
    if queued is not None and queued.state == "CANCELLED" and end is not None and end["code"] == EXIT_REQUEUE:
        return Standing(CANCELLED, f"with a checkpoint at step {end['step']}")
    if end is not None:
        return Standing(STOPPED if end["code"] == EXIT_REQUEUE else FAILED, end["reason"])
    submitted = manifest.stages[stage]
    if blocked := _blocked_by(manifest, stage):
        return Standing(SKIPPED, blocked)
    started = bool(records.history(task.folder))
    if submitted.withdrawn or (queued is not None and queued.state == "CANCELLED"):
        return Standing(CANCELLED, "" if started else "before it started")
    if queued is not None and queued.state != "COMPLETED":
        return Standing(FAILED, f"SLURM says {queued.state} ({queued.reason}); the log may say more")
    if not task.job:
        busy = is_locked(Path(task.folder).parent.parent)
        return Standing(
            RUNNING if busy and started else WAITING if busy else STOPPED, "" if busy else "not run to its end"
        )
    if not started:
        return Standing(GONE, f"job {task.job} left the queue without having started: see its log and sacct")
    return Standing(FAILED, f"job {task.job} ended without a word (killed?): see its log and sacct")


def _blocked_by(manifest: Manifest, stage: str) -> str:
    """Which stage before this one made it impossible, empty when none did."""
    for other, condition in manifest.stages[stage].after.items():
        if other not in manifest.stages:
            continue
        ok = all(finished(task) for task in manifest.stages[other].tasks)
        if condition == "afterok" and not ok:
            return f"because {other} did not finish"
        if condition == "afternotok" and ok:
            return f"not needed: {other} finished"
    return ""


def _error_line(tail: list[str]) -> str:
    """The line of a traceback or message that says most."""
    telling = [line for line in tail if line.startswith(("error:", "rank ")) or "Error" in line]
    return (telling or [line for line in tail if line.strip()] or ["nothing was printed"])[-1].strip()[:300]
