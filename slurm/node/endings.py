"""What follows when a rank's process has ended: a record, a requeue, or another node."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from quell.configs.errors import EXIT_REQUEUE
from quell.slurm.node import chain, records, requeue
from quell.slurm.node.node_faults import node_fault
from quell.slurm.node.rank_processes import RankExit
from quell.slurm.node.records import Failure
from quell.slurm.node.requeue import Refusal
from quell.slurm.stages.task import Task

_SLURM_ENDS_US_S = 1.0
"""How soon SLURM ends the processes of a job that it has requeued."""


@dataclass(frozen=True)
class Ending:
    """The exit of one rank's process of a job."""

    task: Task
    job: str
    rank: int
    node: str
    exit: RankExit
    received: str | None
    """The stop signal that the job received; None if there was none."""

    def conclude(self) -> int:
        """Record the end, requeue the job or have it leave its node; the exit code of this rank."""
        if self.exit.was_stopped(self.received) and self._failure_of_another() is None:
            return self._stopped() if self.rank == 0 else 0
        code = self.exit.exit_code
        if not code:
            self._record("end", code, "finished")
            return 0
        fault = self._reason_to_leave_node()
        failure = self.exit.failure(job=self.job, node=self.node)
        if fault:
            failure["node_fault"] = fault
        records.write_failure(self.task.folder, failure)
        log_line(f"rank {self.rank} on {self.node}: {self.exit.description}")
        if fault:
            return self._leave_node(fault)
        other = self._failure_of_another()
        if not (other and other.get("node_fault")):  # else that rank sees to the requeue
            self._record("end", code, self.exit.description)
        return code

    def _stopped(self) -> int:
        """Requeue a job that was stopped; 0, or the exit code to end with if it may not or cannot be requeued."""
        task, job = self.task, self.job
        saved = "saved" if self.exit.returncode == EXIT_REQUEUE else "stopped before it could save"
        where = f"{saved} at step {records.saved_step(task.run_dir)} ({self.received or 'no signal'} received)"
        outcome = requeue.outcome(task, job, self.received)
        refusal = self._continued() or requeue.obstacle(job) or requeue.refusal(task, job, outcome)
        if refusal is None:
            self._record("stop", self.exit.returncode, "requeue", outcome=outcome)
            log_line(f"{where}: requeueing job {job}")
            problem = requeue.requeue(job)
            if not problem:
                time.sleep(_SLURM_ENDS_US_S)
                return 0
            refusal = Refusal(problem, EXIT_REQUEUE)
        self._record("end", refusal.exit_code, refusal.reason, outcome=outcome)
        log_line(f"{where}, not requeued: {refusal.reason}")
        return refusal.exit_code

    def _continued(self) -> Refusal | None:
        """Why a job of a chain is not requeued: the next one goes on, or there is none left."""
        if self.task.starts < 2:
            return None
        where = chain.position(self.task, self.job)
        if chain.later_jobs(self.task, self.job):
            return Refusal(f"{where}; the next one continues", EXIT_REQUEUE)
        return Refusal(f"{where}; submit again to continue, or raise continue.starts", EXIT_REQUEUE)

    def _failure_of_another(self) -> Failure | None:
        """The job's first failure if it is another rank's, upon which SLURM signals all the others."""
        failure = records.first_failure(self.task.folder, self.job)
        return failure if failure and failure["rank"] != self.rank else None

    def _reason_to_leave_node(self) -> str:
        """What points to the node, if the job may still leave one for that."""
        history = records.history(self.task.folder)
        jobs = records.chain(self.task.folder, self.job)
        left = sum("excluded" in event for event in history if event["job"] in jobs)
        return node_fault(self.exit.tail) if left < self.task.max_bad_nodes else ""

    def _leave_node(self, fault: str) -> int:
        """Have the job, or the next of its chain, start without this node; the exit code of this rank."""
        task, code, reason = self.task, self.exit.exit_code, f"{self.node}: {fault}"
        number = len(records.starts(task.folder, self.job))
        try:  # one rank of several on the node is enough
            Path(task.folder, f"left-{self.job}-{number}").touch(exist_ok=False)
        except FileExistsError:
            return code
        if later := chain.later_jobs(task, self.job):
            problem = requeue.exclude(later, [self.node])
            self._record_any("end", code, reason, excluded=self.node)
            log_line(f"the next job goes on without {self.node}" if not problem else f"cannot exclude it: {problem}")
            return code
        if refusal := requeue.obstacle(self.job):
            self._record_any("end", code, f"{reason}; not requeued: {refusal.reason}")
            return code
        self._record_any("stop", code, reason, excluded=self.node)
        log_line(f"{reason}: requeueing job {self.job} without that node")
        # Once it is requeued the job is pending, and may be told which nodes to avoid; this process still lives a while
        problem = requeue.requeue(self.job)
        if problem:
            self._record_any("end", code, f"{reason}; not requeued: {problem}")
            return code
        if problem := requeue.exclude([self.job], [self.node]):
            log_line(f"cannot exclude {self.node}: {problem}")
        time.sleep(_SLURM_ENDS_US_S)
        return 0

    def _record(self, event: str, code: int, reason: str, **values: object) -> None:
        """Append to the history, if this is the rank that keeps it."""
        if self.rank == 0:
            self._record_any(event, code, reason, **values)

    def _record_any(self, event: str, code: int, reason: str, **values: object) -> None:
        step = records.saved_step(self.task.run_dir)
        records.append_event(
            self.task.folder, event, job=self.job, step=step, code=code, signal=self.received, reason=reason, **values
        )


def log_line(message: str) -> None:
    """Write to stderr at once: it goes into the job's log, between the lines of the training process."""
    print(f"quell: {message}", file=sys.stderr, flush=True)
