"""Jobs that continue one another: each goes on where the one before it stopped, until the task is finished."""

from quell.configs.errors import EXIT_REQUEUE
from quell.slurm.node import records
from quell.slurm.node.records import Event
from quell.slurm.stages.task import Task


def conclusive_end(task: Task, job: str) -> Event | None:
    """The end of an earlier job of the chain that leaves this one nothing to do; None if it has to go on.

    That is success, or a failure that this job would only repeat. Jobs that stopped with a checkpoint, that were killed
    or whose node was to blame are continued.
    """
    jobs = records.chain(task.folder, job)
    earlier = jobs[: jobs.index(job)]
    events = [event for event in records.history(task.folder) if event["job"] in earlier]
    latest = records.since_last_start(events)
    if not latest or any("excluded" in event for event in latest):
        return None
    end = latest[-1]
    return end if end["event"] == "end" and end["code"] != EXIT_REQUEUE else None


def later_jobs(task: Task, job: str) -> list[str]:
    """The jobs of the chain after this one."""
    jobs = records.chain(task.folder, job)
    return jobs[jobs.index(job) + 1 :]


def position(task: Task, job: str) -> str:
    """`job 2 of 5` of a chain; empty for a job that is not continued."""
    jobs = records.chain(task.folder, job)
    return f"job {jobs.index(job) + 1} of {len(jobs)}" if len(jobs) > 1 else ""
