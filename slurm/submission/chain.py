"""Submitting a graph of stages as dependent jobs: all of them or none, and again only those that are not finished."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from quell.configs.errors import MachineError
from quell.configs.support.logs import get_logger
from quell.slurm.node import records
from quell.slurm.stages.plan import Plan, PlannedStage
from quell.slurm.stages.schema import Condition
from quell.slurm.stages.task import Task
from quell.slurm.submission import client, executor
from quell.slurm.submission.client import QueuedJob
from quell.slurm.submission.decisions import decide
from quell.slurm.submission.executor import JobRequest
from quell.slurm.submission.manifest import Manifest

log = get_logger(__name__)


def submit(plan: Plan, chosen: Sequence[str], manifest: Manifest) -> None:
    """Submit the chosen stages that are not finished, and write the manifest after each.

    Jobs that do not wait for another stage are submitted on hold and released at the end. If SLURM refuses one, those
    before it are cancelled. A launcher killed on the way leaves held jobs, which the next submission takes over.

    Raises:
        ConfigError: A stage cannot be submitted as things stand.
        MachineError: SLURM refused a job.
    """
    queue = client.queue()
    decisions = decide(plan, chosen, manifest, queue)
    for name, reason in decisions.keep.items():
        log.info("%s: %s", name, reason)
    count = sum(task.starts for tasks in decisions.submit.values() for task in tasks)
    client.check_limits(count, plan.site.max_jobs)
    client.cancel(decisions.replace)
    manifest.write(plan.root)
    submission = _Submission(plan, manifest, queue)
    with submission.all_or_nothing():
        for name, tasks in decisions.submit.items():
            submission.submit(plan.stages[name], tasks)
        submission.release()


class _Submission:
    """The jobs submitted so far, and the manifest that has them."""

    def __init__(self, plan: Plan, manifest: Manifest, queue: Mapping[str, QueuedJob]) -> None:
        self._plan, self._manifest, self._queue = plan, manifest, queue
        self._jobs: dict[str, tuple[str, ...]] = {}
        """Job ids by stage, the last one first."""
        self._held: dict[str, str] = {}
        """Those of them that wait for their release, by stage."""

    def submit(self, stage: PlannedStage, tasks: tuple[Task, ...]) -> None:
        """Submit one stage, and record it before the next one."""
        for task in tasks:
            stage.write(task)
        dependencies = self._dependencies(stage)
        hold = not dependencies
        after = {**dependencies, **stage.settings.waits_for_jobs, **self._previous_job(stage.name)}
        rounds: list[list[str]] = []
        for number in range(tasks[0].starts):
            request = JobRequest(stage, tasks, self._plan.site, self._plan.root, after=after, hold=hold and not number)
            rounds.append(executor.submit(request))
            self._manifest = self._manifest.with_stage(stage.name, stage.settings.waits_for, tasks, rounds, keep=True)
            self._manifest.write(self._plan.root)
            self._jobs[stage.name] = self._manifest.stages[stage.name].last_first
            if hold:
                self._held[stage.name] = self._jobs[stage.name][-1]
            # The next one keeps the dependencies, too: it must not start where the first one never could.
            after = {**after, self._jobs[stage.name][0]: "afterany"}
            for task, *jobs in zip(tasks, *rounds, strict=True):
                records.write_chain(task.folder, jobs)
        members = f", {len(tasks)} members" if len(tasks) > 1 else ""
        starts = f", continued by {', '.join(jobs[0].split('_')[0] for jobs in rounds[1:])}" if rounds[1:] else ""
        log.info("%s: job %s%s%s", stage.name, self._jobs[stage.name][-1], members, starts)

    def release(self) -> None:
        """Let the held jobs start: the new ones, and those of a submission that was killed."""
        ours = {task.job for stage in self._manifest.stages.values() for task in stage.tasks}
        client.release(job for job, queued in self._queue.items() if queued.held and job in ours)
        for name, job in reversed(self._held.items()):
            try:
                client.release([job])
            except MachineError as error:
                raise MachineError(
                    f"SLURM will not start stage '{name}' ({error}): does its partition have the nodes, cores, memory "
                    "and GPUs that its resources request?"
                ) from error

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Cancel all jobs submitted in the block if it fails."""
        try:
            yield
        except BaseException as error:
            self._cancel(error)
            count = sum(map(len, self._jobs.values()))
            if count and isinstance(error, MachineError):
                raise MachineError(f"{error}; the jobs submitted so far ({count}) were cancelled") from error
            raise

    def _cancel(self, error: BaseException) -> None:
        jobs = [job for jobs in self._jobs.values() for job in jobs]
        try:
            client.cancel(jobs)
        except MachineError as second:
            raise MachineError(
                f"{error}; the jobs submitted so far could not be cancelled ({second}): run scancel {' '.join(jobs)}"
            ) from error
        self._manifest = self._manifest.with_cancelled(self._jobs)
        self._manifest.write(self._plan.root)

    def _dependencies(self, stage: PlannedStage) -> dict[str, Condition]:
        """The condition on each job that this one waits for: those just submitted, and those still in the queue."""
        dependencies: dict[str, Condition] = {}
        for predecessor, condition in stage.settings.waits_for.items():
            submitted = self._manifest.stages.get(predecessor)
            if submitted and (predecessor in self._jobs or submitted.in_queue(self._queue)):
                dependencies[submitted.job] = condition
        return dependencies

    def _previous_job(self, name: str) -> dict[str, Condition]:
        """The stage's cancelled job of an earlier submission, if it is still writing its checkpoint."""
        previous = self._manifest.stages.get(name)
        return {previous.job: "afterany"} if previous and previous.withdrawn and previous.is_active(self._queue) else {}
