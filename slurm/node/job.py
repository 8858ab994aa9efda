"""What a SLURM job runs: one process per rank, its signals passed on, its end judged, the job requeued when it saved.

submitit starts `Job` in every task. USR1, USR2 and TERM reach the training processes; all ranks agree on a step, save
and exit with 75; rank 0 then puts the job back into the queue under the same id.
"""

import os
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from configs.errors import EXIT_REQUEUE, DivergedError, MachineError, QuellError
from slurm.node import pick, records, requeue
from slurm.node.processes import Children, Ended, clean_environment, rank_environment
from slurm.stages.task import Task, read_task

_FIRST_PORT, _PORTS = 10_000, 20_000
"""Rendezvous ports, below the range from which the kernel hands out ports to everybody."""


@dataclass(frozen=True)
class Place:
    """Where in the job this process is."""

    job: str
    rank: int
    node: str
    environment: Mapping[str, str]
    """Variables of the world of processes."""


class Job:
    """The callable that submitit starts in each task of a SLURM job."""

    def __init__(self, file: str) -> None:
        self.file = file

    def __call__(self) -> str:
        try:
            code = run(read_task(self.file), _place())
        except QuellError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            code = error.exit_code
        if code:
            raise SystemExit(code)
        return "done"


def run(task: Task, place: Place) -> int:
    """The exit code of this rank's part of the task."""
    if place.rank == 0:
        _begin(task, place)
    try:
        if task.kind == "pick":
            records.note(task.folder, "end", job=place.job, code=0, reason=pick.choose(task))
            return 0
        command = [sys.executable, *task.arguments, *pick.late_words(task)]
    except QuellError as error:
        records.note(task.folder, "end", job=place.job, code=error.exit_code, reason=str(error))
        raise
    Path(task.run_dir).mkdir(parents=True, exist_ok=True)
    environment = clean_environment() | {"PYTHONUNBUFFERED": "1"} | dict(task.environment) | dict(place.environment)
    with Children(command, {place.rank: environment}, cwd=Path(task.code)) as children:
        ended = children.wait()[0]
        told = children.told
        if ended.code == 0 or not ended.stopped(told) or _another_failed(task, place):
            return _finish(task, place, ended)
        # still inside: a second signal while the requeue is asked for must not kill this process
        return _stop(task, place, ended, told) if place.rank == 0 else 0


def _begin(task: Task, place: Place) -> None:
    """Write down that a start begins, say what became of the one before, and refuse to go round in a circle."""
    step = records.saved_step(task.run_dir)
    before = records.history(task.folder, place.job)
    problem = requeue.stuck(task, place.job, step)
    records.clear_failures(task.folder)
    records.note(task.folder, "start", job=place.job, step=step, node=place.node)
    if before and before[-1]["event"] == "start":
        _say(f"the start before this one was killed before it could save; going on from step {step}")
    elif before:
        _say(f"start {sum(event['event'] == 'start' for event in before) + 1} of this job, from step {step}")
    if problem:
        records.note(task.folder, "end", job=place.job, step=step, code=DivergedError.exit_code, reason=problem)
        raise DivergedError(f"{task.name}: {problem}; look at the log of the start before")


def _finish(task: Task, place: Place, ended: Ended) -> int:
    """Write down the end of a task that will not start again by itself."""
    code = ended.code if ended.code >= 0 else 128 - ended.code
    if code:
        records.write_failure(
            task.folder, job=place.job, rank=place.rank, node=place.node, says=ended.says, at=ended.time,
            tail=list(ended.tail),
        )  # fmt: skip
        _say(f"rank {place.rank} on {place.node}: {ended.says}")
    if place.rank == 0:
        step = records.saved_step(task.run_dir)
        records.note(task.folder, "end", job=place.job, step=step, code=code, reason=ended.says if code else "finished")
    return code


def _stop(task: Task, place: Place, ended: Ended, told: str | None) -> int:
    """Requeue a job that was stopped; the exit code when that is not wanted or not possible."""
    step = records.saved_step(task.run_dir)
    saved = "saved" if ended.code == EXIT_REQUEUE else "stopped before it could save"
    reason = requeue.why_not(task, place.job, step)
    code = DivergedError.exit_code if reason.startswith("no progress") else EXIT_REQUEUE
    if not reason:
        records.note(task.folder, "stop", job=place.job, step=step, code=ended.code, signal=told, reason="requeue")
        _say(f"{saved} at step {step} after {told or 'its own wish'}: requeueing job {place.job}")
        reason = requeue.put_back(place.job)
        if not reason:
            time.sleep(1)  # SLURM takes the job away meanwhile
            return 0
    records.note(task.folder, "end", job=place.job, step=step, code=code, signal=told, reason=reason)
    _say(f"{saved} at step {step} after {told or 'its own wish'}, not requeued: {reason}")
    return code


def _another_failed(task: Task, place: Place) -> bool:
    """Whether this process was ended because another rank failed: SLURM then tells the rest to stop as well."""
    failure = records.first_failure(task.folder, place.job)
    return failure is not None and failure["rank"] != place.rank


def _place() -> Place:
    """This task's place from SLURM's variables; MachineError when the first node's name does not resolve."""
    from submitit.helpers import TorchDistributedEnvironment

    number = os.environ["SLURM_JOB_ID"]
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else number
    os.environ["MASTER_PORT"] = str(_FIRST_PORT + int(number) % _PORTS)
    world = TorchDistributedEnvironment()
    if world.world_size > 1:
        try:
            socket.getaddrinfo(world.master_addr, world.master_port)
        except OSError as error:
            raise MachineError(
                f"the first node's name {world.master_addr} is unknown on {socket.gethostname()} ({error.strerror}): "
                "the processes cannot find each other; set MASTER_ADDR's name in DNS or /etc/hosts"
            ) from error
    environment = rank_environment(
        rank=world.rank, world=world.world_size, local_rank=world.local_rank, local_world=world.local_world_size,
        address=world.master_addr, port=world.master_port,
    )  # fmt: skip
    return Place(job, world.rank, os.environ.get("SLURMD_NODENAME", socket.gethostname()), environment)


def _say(text: str) -> None:
    print(f"quell: {text}", file=sys.stderr, flush=True)
