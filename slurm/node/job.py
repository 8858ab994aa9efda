"""What a SLURM job runs: one process per rank, with stop signals forwarded, and the job requeued once it has saved.

submitit calls `Job` in every task of the job. USR1, USR2 and TERM are forwarded to the training processes; all ranks
agree on a step, save and exit with code 75; rank 0 then requeues the job under the same id.
"""

import os
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from configs.errors import EXIT_REQUEUE, DivergedError, MachineError, QuellError
from slurm.node import command, records, requeue
from slurm.node.rank_processes import RankExit, RankProcesses, clean_environment, rank_environment
from slurm.stages.task import Task, read_task

_FIRST_PORT, _PORTS = 10_000, 20_000
"""Rendezvous ports, below the range from which the kernel assigns ports to outgoing connections."""


@dataclass(frozen=True)
class RankPlacement:
    """Which rank of which job this process is, and on which node."""

    job: str
    rank: int
    node: str
    environment: Mapping[str, str]
    """The variables with which the rank joins the process group."""


class Job:
    """The callable that submitit pickles and calls in each task of a SLURM job."""

    def __init__(self, file: str) -> None:
        self.file = file
        """The task's JSON file."""

    def __call__(self) -> str:
        """Run this rank's part of the task; SystemExit with its exit code if that is not 0."""
        try:
            code = run(read_task(self.file), _placement())
        except QuellError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            code = error.exit_code
        if code:
            raise SystemExit(code)
        return "done"


def run(task: Task, placement: RankPlacement) -> int:
    """Run this rank's process of a task to its end; its exit code, 0 if the job has been requeued."""
    if placement.rank == 0:
        _record_start(task, placement)
    arguments = command.prepare(task, placement.job)
    if arguments is None:
        return 0
    environment = {**clean_environment(), "PYTHONUNBUFFERED": "1", **task.environment, **placement.environment}
    with RankProcesses(arguments, {placement.rank: environment}, cwd=Path(task.code)) as processes:
        (rank_exit,) = processes.wait()
        received = processes.received
        if not rank_exit.was_stopped(received) or _another_rank_failed(task, placement):
            return _record_end(task, placement, rank_exit)
        # Inside the block, because a second stop signal must not kill this process while it asks for the requeue.
        return _requeue(task, placement, rank_exit, received) if placement.rank == 0 else 0


def _record_start(task: Task, placement: RankPlacement) -> None:
    """Record a start and log how the previous one ended; DivergedError when the job makes no progress."""
    step = records.saved_step(task.run_dir)
    earlier = records.history(task.folder, placement.job)
    stalled = requeue.stalled(task, placement.job, step)
    records.clear_failures(task.folder)
    records.append_event(task.folder, "start", job=placement.job, step=step, node=placement.node)
    if earlier and earlier[-1]["event"] == "start":
        _log(f"the previous start was killed before it could save; resuming from step {step}")
    elif earlier:
        _log(f"start {len(records.starts(task.folder, placement.job))} of this job, from step {step}")
    if stalled:
        records.append_event(
            task.folder, "end", job=placement.job, step=step, code=stalled.exit_code, reason=stalled.reason
        )
        raise DivergedError(f"{task.name}: {stalled.reason}; see the log of the previous start")


def _record_end(task: Task, placement: RankPlacement, rank_exit: RankExit) -> int:
    """Record the end of a task that will not be requeued; its exit code."""
    code = rank_exit.exit_code
    if code:
        records.write_failure(task.folder, rank_exit.failure(job=placement.job, node=placement.node))
        _log(f"rank {placement.rank} on {placement.node}: {rank_exit.description}")
    if placement.rank == 0:
        step = records.saved_step(task.run_dir)
        reason = rank_exit.description if code else "finished"
        records.append_event(task.folder, "end", job=placement.job, step=step, code=code, reason=reason)
    return code


def _requeue(task: Task, placement: RankPlacement, rank_exit: RankExit, received: str | None) -> int:
    """Requeue a job that was stopped; 0, or the exit code to end with if it may not or cannot be requeued."""
    step = records.saved_step(task.run_dir)
    saved = "saved" if rank_exit.returncode == EXIT_REQUEUE else "stopped before it could save"
    where = f"{saved} at step {step} ({received or 'no signal'} received)"
    refusal = requeue.refusal(task, placement.job, step)
    if refusal is None:
        records.append_event(
            task.folder, "stop", job=placement.job, step=step, code=rank_exit.returncode, signal=received,
            reason="requeue",
        )  # fmt: skip
        _log(f"{where}: requeueing job {placement.job}")
        problem = requeue.requeue(placement.job)
        if not problem:
            time.sleep(1)  # SLURM ends this process meanwhile
            return 0
        refusal = requeue.Refusal(problem, EXIT_REQUEUE)
    records.append_event(
        task.folder, "end", job=placement.job, step=step, code=refusal.exit_code, signal=received,
        reason=refusal.reason,
    )  # fmt: skip
    _log(f"{where}, not requeued: {refusal.reason}")
    return refusal.exit_code


def _another_rank_failed(task: Task, placement: RankPlacement) -> bool:
    """Whether this process was stopped because another rank failed, upon which SLURM signals all the others."""
    failure = records.first_failure(task.folder, placement.job)
    return failure is not None and failure["rank"] != placement.rank


def _placement() -> RankPlacement:
    """This task's placement from SLURM's variables; MachineError when the first node's name cannot be resolved."""
    from submitit.helpers import TorchDistributedEnvironment

    number = os.environ["SLURM_JOB_ID"]
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else number
    os.environ["MASTER_PORT"] = str(_FIRST_PORT + int(number) % _PORTS)
    group = TorchDistributedEnvironment()
    if group.world_size > 1:
        try:
            socket.getaddrinfo(group.master_addr, group.master_port)
        except OSError as error:
            raise MachineError(
                f"cannot resolve the first node's name '{group.master_addr}' on {socket.gethostname()} "
                f"({error.strerror}): the ranks cannot connect; add the name to DNS or /etc/hosts"
            ) from error
    environment = rank_environment(
        rank=group.rank, world_size=group.world_size, local_rank=group.local_rank,
        local_world_size=group.local_world_size, address=group.master_addr, port=group.master_port,
    )  # fmt: skip
    node = os.environ.get("SLURMD_NODENAME", socket.gethostname())
    return RankPlacement(job, group.rank, node, environment)


def _log(message: str) -> None:
    """Write to stderr at once: it goes into the job's log, between the lines of the training process."""
    print(f"quell: {message}", file=sys.stderr, flush=True)
