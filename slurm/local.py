"""The same stages on this machine, one after the other, each with as many processes as its job would have."""

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.errors import EXIT_REQUEUE, ConfigError, MachineError, QuellError
from slurm.node import pick, records
from slurm.node.processes import Children, clean_environment, rank_environment
from slurm.stages.plan import Plan
from slurm.stages.task import Task
from slurm.submission import chain, client, manifest, state
from slurm.submission.manifest import Manifest, SubmittedStage

_HOST = "127.0.0.1"


def run(plan: Plan, chosen: list[str], fresh: Manifest) -> int:
    """Run the chosen stages that are not finished; 0, the first failure's exit code, or 75 when told to stop.

    Raises ConfigError when a finished stage had other settings or one before the chosen is missing, MachineError
    while SLURM has jobs of these stages.
    """
    before = manifest.read(plan.root)
    current = fresh.model_copy(update={"stages": before.stages if before else {}})
    problems = [text for name in chosen for text in chain.other_settings(plan, name, current)]
    problems += [text for name in chosen for text in chain.unready(plan, name, chosen, current)]
    if problems:
        raise ConfigError(problems, source=plan.file.name)
    if before and before.executor == "slurm":
        _refuse_beside_jobs(before)
    failed: dict[str, int] = {}
    for name in chosen:
        current = _enter(plan, name, current)
        if all(state.finished(task) for task in current.stages[name].tasks):
            print(f"{name}: finished, kept", flush=True)
            continue
        if blocked := _blocked(plan, name, current):
            print(f"{name}: skipped {blocked}", flush=True)
            continue
        code = _stage(plan, name)
        if code == EXIT_REQUEUE:
            print(f"{name}: stopped with a checkpoint; start the same command again to continue", file=sys.stderr)
            return code
        if code:
            failed[name] = code
    return next(iter(failed.values()), 0)


def run_task(task: Task, world: int) -> int:
    """One task with `world` processes on this machine; its exit code."""
    records.clear_failures(task.folder)
    records.note(task.folder, "start", job=state.LOCAL_JOB, step=records.saved_step(task.run_dir))
    try:
        if task.kind == "pick":
            records.note(task.folder, "end", job=state.LOCAL_JOB, code=0, reason=pick.choose(task))
            return 0
        Path(task.run_dir).mkdir(parents=True, exist_ok=True)
        command = [sys.executable, *task.arguments, *pick.late_words(task)]
    except QuellError as error:
        records.note(task.folder, "end", job=state.LOCAL_JOB, code=error.exit_code, reason=str(error))
        raise
    with _store(world) as port, Children(command, _environments(task, world, port), cwd=Path(task.code)) as children:
        ended = children.wait()
    bad = [end for end in ended if end.failed and not end.stopped(children.told)]
    for end in bad:
        records.write_failure(
            task.folder, job=state.LOCAL_JOB, rank=end.rank, node=socket.gethostname(), says=end.says, at=end.time,
            tail=list(end.tail),
        )  # fmt: skip
    if bad:
        code, event, reason = bad[0].code, "end", bad[0].says
    elif any(end.stopped(children.told) for end in ended):
        code, event, reason = EXIT_REQUEUE, "stop", f"stopped by {children.told or 'a signal to its process'}"
    else:
        code, event, reason = 0, "end", "finished"
    code = code if code >= 0 else 128 - code
    records.note(
        task.folder, event, job=state.LOCAL_JOB, step=records.saved_step(task.run_dir), code=code, reason=reason
    )
    return code


def _refuse_beside_jobs(before: Manifest) -> None:
    """MachineError while jobs of an earlier submission may write the same run folders."""
    try:
        queue = client.states()
    except MachineError:
        return  # no SLURM here: nothing to ask
    for name, stage in before.stages.items():
        if stage.known_to(queue):
            raise MachineError(
                f"stage '{name}' is in SLURM's queue as job {stage.job}: cancel it, or use another --run-dir"
            )


def _stage(plan: Plan, name: str) -> int:
    """Run a stage's open tasks; the first exit code that is not 0. Members of a sweep do not stop one another."""
    worst = 0
    for task in plan.tasks[name]:
        if _done(task):
            continue
        print(f"== {task.name}", flush=True)
        chain.write_task(plan, task)
        started = time.monotonic()
        try:
            code = run_task(task, plan.stage(name).resources.world)
        except QuellError as error:
            print(f"error: {error}", file=sys.stderr)
            code = error.exit_code
        print(f"== {task.name}: exit code {code} after {time.monotonic() - started:.0f} s", flush=True)
        if code == EXIT_REQUEUE:
            return code
        worst = worst or code
    return worst


def _done(task: Task) -> bool:
    return state.finished(chain.submitted([task], [""])[0])


def _enter(plan: Plan, name: str, current: Manifest) -> Manifest:
    tasks = plan.tasks[name]
    entry = SubmittedStage(after=plan.stage(name).waits_for, tasks=chain.submitted(tasks, [""] * len(tasks)))
    current = current.with_stage(name, entry)
    current.write(plan.root)
    return current


def _blocked(plan: Plan, name: str, current: Manifest) -> str:
    """Why a stage cannot run after what happened before it, as SLURM would judge it."""
    for other, condition in plan.stage(name).waits_for.items():
        before = current.stages.get(other)
        ok = before is not None and all(state.finished(task) for task in before.tasks)
        if condition == "afterok" and not ok:
            return f"because {other} did not finish"
        if condition == "afternotok" and ok:
            return f"because {other} finished"
    return ""


@contextmanager
def _store(world: int) -> Iterator[int]:
    """The port of the store at which the processes of a world meet; it is this process's from first to last.

    A port that rank 0 opened later could be another program's by then.
    """
    if world == 1:
        yield 0
        return
    from torch.distributed import TCPStore  # slow to import, and of no use to one process

    server = TCPStore(_HOST, 0, is_master=True, wait_for_workers=False)
    yield server.port


def _environments(task: Task, world: int, port: int) -> dict[int, dict[str, str]]:
    common = clean_environment() | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": _path(task)} | dict(task.environment)
    if world > 1:
        common["TORCHELASTIC_USE_AGENT_STORE"] = "True"  # rank 0 is a client too
    return {
        rank: common
        | rank_environment(rank=rank, world=world, local_rank=rank, local_world=world, address=_HOST, port=port)
        for rank in range(world)
    }


def _path(task: Task) -> str:
    return os.pathsep.join(filter(None, [task.code, os.environ.get("PYTHONPATH")]))
