"""The stages on this machine, one after the other, each with as many processes as its job would have."""

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from quell.configs.errors import EXIT_REQUEUE, ConfigError, MachineError, QuellError
from quell.configs.support.logs import get_logger
from quell.slurm.node import command, records
from quell.slurm.node.rank_processes import RankExit, RankProcesses, clean_environment, rank_environment
from quell.slurm.stages.plan import Plan, PlannedStage
from quell.slurm.stages.task import Task
from quell.slurm.submission import client, decisions, state
from quell.slurm.submission.manifest import Manifest, SubmittedTask, read_manifest

log = get_logger(__name__)

_HOST = "127.0.0.1"


def run(plan: Plan, chosen: Sequence[str], manifest: Manifest) -> int:
    """Run the chosen stages that are not finished.

    Returns:
        0, the exit code of the first failure, or 75 if a stop signal arrived.

    Raises:
        ConfigError: A finished stage had other settings, or a stage that has to finish first is missing.
        MachineError: SLURM has jobs of these stages.
    """
    problems = [problem for name in chosen for problem in decisions.changed_settings(plan.stages[name], manifest)]
    for name in chosen:
        problems += decisions.missing_stages(plan.stages[name], chosen, manifest, queue={})
    if problems:
        raise ConfigError(problems, source=plan.name)
    _refuse_submitted_jobs(read_manifest(plan.root))
    first_failure = 0
    for stage in (plan.stages[name] for name in chosen):
        waits_for = stage.settings.waits_for
        manifest = manifest.with_stage(stage.name, waits_for, stage.tasks, [[""] * len(stage.tasks)], keep=False)
        manifest.write(plan.root)
        if state.stage_finished(manifest, stage.name):
            log.info("%s: finished, kept", stage.name)
            continue
        if blocked := state.blocked_by(manifest, waits_for):
            log.info("%s: skipped, %s", stage.name, blocked)
            continue
        code = _run_stage(stage)
        if code == EXIT_REQUEUE:
            log.warning("%s: stopped with a checkpoint; run the same command again to resume", stage.name)
            return code
        first_failure = first_failure or code
    return first_failure


def run_task(task: Task, world_size: int) -> int:
    """Run one task with `world_size` processes on this machine; its exit code."""
    records.clear_failures(task.folder)
    records.append_event(task.folder, "start", job=state.LOCAL_JOB, step=records.saved_step(task.run_dir))
    arguments = command.prepare(task, state.LOCAL_JOB)
    if arguments is None:
        return 0
    with (
        _rendezvous_store(world_size) as port,
        RankProcesses(arguments, _environments(task, world_size, port), cwd=Path(task.code)) as processes,
    ):
        exits = processes.wait()
    return _record_end(task, exits, processes.received)


def _record_end(task: Task, exits: Sequence[RankExit], received: str | None) -> int:
    """Record how a task ended; its exit code."""
    failures = [rank_exit for rank_exit in exits if rank_exit.failed and not rank_exit.was_stopped(received)]
    for rank_exit in failures:
        records.write_failure(task.folder, rank_exit.failure(job=state.LOCAL_JOB, node=socket.gethostname()))
    event, code, reason = "end", 0, "finished"
    if failures:
        code, reason = failures[0].exit_code, failures[0].description
    elif any(rank_exit.was_stopped(received) for rank_exit in exits):
        event, code, reason = "stop", EXIT_REQUEUE, f"stopped by {received or 'a signal to its process'}"
    step = records.saved_step(task.run_dir)
    records.append_event(task.folder, event, job=state.LOCAL_JOB, step=step, code=code, reason=reason)
    return code


def _refuse_submitted_jobs(previous: Manifest | None) -> None:
    """Raise MachineError while jobs of an earlier submission may write the same run folders."""
    if previous is None or previous.executor != "slurm":
        return
    try:
        queue = client.queue()
    except MachineError:
        return  # without SLURM there are no jobs
    for name, stage in previous.stages.items():
        if stage.is_active(queue):
            raise MachineError(
                f"stage '{name}' is in SLURM's queue as job {stage.job}: cancel it, or use another --run-dir"
            )


def _run_stage(stage: PlannedStage) -> int:
    """Run a stage's unfinished tasks; the first exit code that is not 0. A failed member does not stop the others."""
    first_failure = 0
    for task in stage.tasks:
        if state.is_finished(SubmittedTask.of(task, [""])):
            continue
        log.info("== %s", task.name)
        stage.write(task)
        started = time.monotonic()
        try:
            code = run_task(task, stage.settings.resources.world_size)
        except QuellError as error:
            log.error("%s", error)
            code = error.exit_code
        log.info("== %s: exit code %d after %.0f s", task.name, code, time.monotonic() - started)
        if code == EXIT_REQUEUE:
            return code
        first_failure = first_failure or code
    return first_failure


@contextmanager
def _rendezvous_store(world_size: int) -> Iterator[int]:
    """Hold the store at which the processes meet, and yield its port; 0 for a single process, which needs none.

    The port is bound by this process throughout. If rank 0 opened it later, another program could have taken it.
    """
    if world_size == 1:
        yield 0
        return
    from torch.distributed import TCPStore  # slow to import

    store = TCPStore(_HOST, 0, is_master=True, wait_for_workers=False)
    yield store.port


def _environments(task: Task, world_size: int, port: int) -> dict[int, dict[str, str]]:
    """The environment of each rank."""
    path = os.pathsep.join(filter(None, [task.code, os.environ.get("PYTHONPATH")]))
    common = {**clean_environment(), "PYTHONUNBUFFERED": "1", "PYTHONPATH": path, **task.environment}
    if world_size > 1:
        common["TORCHELASTIC_USE_AGENT_STORE"] = "True"  # rank 0 connects to our store instead of opening its own
    return {
        rank: {
            **common,
            **rank_environment(
                rank=rank, world_size=world_size, local_rank=rank, local_world_size=world_size, address=_HOST, port=port
            ),
        }
        for rank in range(world_size)
    }
