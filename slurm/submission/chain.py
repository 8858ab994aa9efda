"""Submitting a graph of stages: all of it or nothing, and again only what is not finished."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from configs.errors import ConfigError, MachineError
from slurm.stages.plan import CONFIG_FILE, Plan
from slurm.stages.schema import Condition
from slurm.stages.task import Task
from slurm.submission import client, executor, manifest, state
from slurm.submission.client import Queued
from slurm.submission.manifest import Manifest, SubmittedStage, SubmittedTask


@dataclass
class Todo:
    """What a submission is going to do with each chosen stage."""

    submit: dict[str, list[Task]] = field(default_factory=dict)
    """Tasks to hand in, by stage in order."""
    kept: dict[str, str] = field(default_factory=dict)
    """Why a stage is left as it is."""
    replace: list[str] = field(default_factory=list)
    """Jobs to withdraw first: they wait for a job that is replaced."""


def submit(plan: Plan, chosen: list[str], fresh: Manifest, *, say: Callable[[str], None] = print) -> Manifest:
    """Hand in the chosen stages that are not finished; the manifest, already on disk.

    Jobs that wait for no other stage are handed in held and released at the end. When SLURM refuses one, those before
    it are withdrawn and MachineError says so; a process killed on the way leaves held jobs for the next
    submission to take over.
    """
    before = manifest.read(plan.root)
    current = fresh.model_copy(update={"stages": before.stages if before else {}})
    queue = client.states()
    todo = decide(plan, chosen, current, queue)
    for name, why in todo.kept.items():
        say(f"{name}: {why}")
    client.check_room(sum(map(len, todo.submit.values())), plan.file.site.max_jobs)
    client.cancel(todo.replace)
    current.write(plan.root)
    new: dict[str, str] = {}
    held: dict[str, str] = {}
    try:
        for name, tasks in todo.submit.items():
            after = dependencies(plan, name, current, queue, new=set(new))
            first = not after
            current = _hand_in(plan, name, tasks, current, after | ending(name, current, queue), hold=first)
            new[name] = current.stages[name].job
            if first:
                held[name] = new[name]
            members = f", {len(tasks)} members" if len(tasks) > 1 else ""
            say(f"{name}: job {new[name]}{members}")
        _release(held, current, queue)
    except BaseException as error:
        _roll_back(plan.root, current, new, error)
        raise
    return current


def decide(plan: Plan, chosen: list[str], current: Manifest, queue: Mapping[str, Queued]) -> Todo:
    """What to hand in; ConfigError with every stage that cannot be submitted as things stand."""
    todo, problems = Todo(), []
    for name in chosen:
        known = {task.name: task for task in current.stages[name].tasks} if name in current.stages else {}
        standing = {task: state.of(current, name, known[task], queue).word for task in known}
        open_tasks = [task for task in plan.tasks[name] if standing.get(task.name) != state.FINISHED]
        problems += other_settings(plan, name, current)
        if not open_tasks:
            todo.kept[name] = "finished, kept"
            continue
        if unneeded := _unneeded(plan, name, current):
            todo.kept[name] = unneeded
            continue
        active = {task: word for task, word in standing.items() if word in state.ACTIVE}
        waits_for_replaced = set(plan.stage(name).waits_for) & set(todo.submit)
        if active and not (waits_for_replaced and set(active.values()) == {state.WAITING}):
            todo.kept[name] = f"in the queue as job {current.stages[name].job}, kept"
            continue
        if active:
            todo.replace.append(current.stages[name].job)
        problems += unready(plan, name, chosen, current, queue)
        todo.submit[name] = open_tasks
    if problems:
        raise ConfigError(problems, source=plan.file.name)
    return todo


def other_settings(plan: Plan, name: str, current: Manifest) -> list[str]:
    """Finished tasks of a stage that are not what the stage file asks for now."""
    known = {task.name: task for task in current.stages[name].tasks} if name in current.stages else {}
    return [
        f"stages.{name}: {task.run_dir} holds a finished run of other settings: choose another name "
        "(--set name=...) or --run-dir, or remove that folder"
        for task in plan.tasks[name]
        if task.name in known and known[task.name].digest != task.digest and state.finished(known[task.name])
    ]


def unready(
    plan: Plan, name: str, chosen: list[str], current: Manifest, queue: Mapping[str, Queued] | None = None
) -> list[str]:
    """Stages before this one that are neither chosen, nor finished, nor in the queue (where there is one)."""
    problems = []
    for other, condition in plan.stage(name).waits_for.items():
        before = current.stages.get(other)
        tasks = before.tasks if before else ()
        active = bool(before and queue and before.in_queue(queue))
        done = bool(tasks) and all(state.finished(task) for task in tasks)
        if condition == "afterok" and not (other in chosen or active or done):
            problems.append(
                f"stages.{name}: starts after {other}, which has not finished here: submit it too, or drop --only"
            )
    return problems


def dependencies(
    plan: Plan, name: str, current: Manifest, queue: Mapping[str, Queued], *, new: set[str]
) -> dict[str, Condition]:
    """Job id -> condition for every stage before this one that was just handed in or is still in the queue."""
    found: dict[str, Condition] = {}
    for other, condition in plan.stage(name).waits_for.items():
        before = current.stages.get(other)
        if before and (other in new or before.in_queue(queue)):
            found[before.job] = condition
    return found


def ending(name: str, current: Manifest, queue: Mapping[str, Queued]) -> dict[str, Condition]:
    """The job of a stage's earlier submission that was cancelled and still writes its checkpoint, however it ends."""
    before = current.stages.get(name)
    return {before.job: "afterany"} if before and before.withdrawn and before.known_to(queue) else {}


def submitted(
    stage_tasks: list[Task], ids: list[str], known: tuple[SubmittedTask, ...] = ()
) -> tuple[SubmittedTask, ...]:
    """Tasks as the manifest keeps them: those just handed in, and those of earlier submissions that are kept."""
    new = {
        task.name: SubmittedTask(
            name=task.name, job=job, kind=task.kind, run_dir=task.run_dir, folder=task.folder, digest=task.digest
        )
        for task, job in zip(stage_tasks, ids, strict=True)
    }
    kept = [task for task in known if task.name not in new]
    return (*kept, *new.values())


def write_task(plan: Plan, task: Task) -> None:
    """Put what a job needs on the shared disk."""
    try:
        task.write()
        if task.name in plan.configs:
            (Path(task.folder) / CONFIG_FILE).write_text(plan.configs[task.name], encoding="utf-8")
    except OSError as error:
        raise MachineError(f"cannot write {task.folder} ({error.strerror}): choose another --run-dir") from error


def describe(plan: Plan, stage_file: Path, kind: str, code: Path, commit: str) -> Manifest:
    """A manifest without stages."""
    created = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return Manifest(
        name=plan.file.name, executor=kind, stage_file=str(stage_file), created=created, commit=commit, code=str(code)
    )


def title(plan: Plan, name: str) -> str:
    """The job's name in the queue."""
    return f"{plan.file.name}.{name}"


def _hand_in(
    plan: Plan, name: str, tasks: list[Task], current: Manifest, after: dict[str, Condition], *, hold: bool
) -> Manifest:
    """Submit one stage, and write it down before the next."""
    for task in tasks:
        write_task(plan, task)
    stage = plan.stage(name)
    ids = executor.submit(
        name, tasks, stage, plan.file.site, root=plan.root, after=after, hold=hold, title=title(plan, name)
    )
    known = current.stages[name].tasks if name in current.stages else ()
    entry = SubmittedStage(job=ids[0].split("_")[0], after=stage.waits_for, tasks=submitted(tasks, ids, known))
    current = current.with_stage(name, entry)
    current.write(plan.root)
    return current


def _release(held: dict[str, str], current: Manifest, queue: Mapping[str, Queued]) -> None:
    """Let the held jobs start: those of a submission that was killed, and the new ones, by stage."""
    ours = {task.job for stage in current.stages.values() for task in stage.tasks}
    client.release(job for job, queued in queue.items() if queued.reason == "JobHeldUser" and job in ours)
    for name, job in reversed(held.items()):
        try:
            client.release([job])
        except MachineError as error:
            raise MachineError(
                f"SLURM will not start stage '{name}' ({error}): does its partition have the nodes, cores, memory and "
                "GPUs that its resources ask for?"
            ) from error


def _roll_back(root: Path, current: Manifest, new: dict[str, str], error: BaseException) -> None:
    """Withdraw what was handed in; says which jobs are left when even that fails."""
    try:
        client.cancel(new.values())
    except MachineError as second:
        raise MachineError(
            f"{error}; the jobs before it could not be withdrawn either ({second}): scancel {' '.join(new.values())}"
        ) from error
    for name in new:
        current = current.with_stage(name, current.stages[name].model_copy(update={"withdrawn": True}))
    current.write(root)
    if new and isinstance(error, MachineError):
        raise MachineError(f"{error}; the {len(new)} jobs handed in were withdrawn") from error


def _unneeded(plan: Plan, name: str, current: Manifest) -> str:
    """Why a stage that waits for a failure will never run: there was none."""
    for other, condition in plan.stage(name).waits_for.items():
        if (
            condition == "afternotok"
            and other in current.stages
            and all(map(state.finished, current.stages[other].tasks))
        ):
            return f"not needed: {other} finished"
    return ""
