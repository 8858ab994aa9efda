"""What a SLURM job runs: one process per rank, with stop signals forwarded, and the job requeued once it has saved.

submitit calls `Job` in every task of the job. USR1, USR2 and TERM are forwarded to the training processes; all ranks
agree on a step, save and exit with code 75; rank 0 then requeues the job under the same id.
"""

import sys
from pathlib import Path

from quell.configs.errors import QuellError
from quell.slurm.node import chain, command, placement, records
from quell.slurm.node.endings import Ending, log_line
from quell.slurm.node.placement import RankPlacement
from quell.slurm.node.rank_processes import RankProcesses, clean_environment
from quell.slurm.stages.task import Task, read_task

_WANTS_GPUS = {"QUELL_WANTS_GPUS": "1"}
"""Has launch/machine/devices.py refuse to compute on CPUs."""


class Job:
    """The callable that submitit pickles and calls in each task of a SLURM job."""

    def __init__(self, file: str) -> None:
        self.file = file
        """The task's JSON file."""

    def __call__(self) -> str:
        """Run this rank's part of the task; SystemExit with its exit code if that is not 0."""
        try:
            code = run(read_task(self.file), placement.of_this_process())
        except QuellError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            code = error.exit_code
        if code:
            raise SystemExit(code)
        return "done"


def run(task: Task, place: RankPlacement) -> int:
    """Run this rank's process of a task to its end; its exit code, 0 if the job has been requeued."""
    if end := chain.conclusive_end(task, place.job):
        if place.rank == 0:
            log_line(f"nothing to do: job {end['job']} ended with exit code {end['code']} ({end['reason']})")
        return end["code"]
    if place.rank == 0:
        _record_start(task, place)
    arguments = command.prepare(task, place.job)
    if arguments is None:
        return 0
    wants = _WANTS_GPUS if task.wants_gpus else {}
    environment = {**clean_environment(), "PYTHONUNBUFFERED": "1", **wants, **task.environment, **place.environment}
    with RankProcesses(arguments, {place.rank: environment}, cwd=Path(task.code)) as processes:
        (rank_exit,) = processes.wait()
        # Inside the block, because a second stop signal must not kill this process while it asks for the requeue.
        return Ending(task, place.job, place.rank, place.node, rank_exit, processes.received).conclude()


def _record_start(task: Task, place: RankPlacement) -> None:
    """Record a start, and log how the previous one ended."""
    step = records.saved_step(task.run_dir)
    earlier = records.history(task.folder, place.job)
    records.clear_failures(task.folder)
    records.append_event(
        task.folder, "start", job=place.job, step=step, node=place.node,
        checkpoints=records.checkpoints(task.run_dir),
    )  # fmt: skip
    if earlier and earlier[-1]["event"] == "start":
        log_line(f"the previous start was killed before it could save; resuming from step {step}")
    elif earlier:
        log_line(f"start {len(records.starts(task.folder, place.job))} of this job, from step {step}")
    elif where := chain.position(task, place.job):
        log_line(f"{where}, from step {step}")
