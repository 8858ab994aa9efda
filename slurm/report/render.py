"""What --dry-run prints: the graph, every sbatch script, every resolved configuration."""

import shlex
from collections.abc import Iterator, Sequence

from quell.slurm.stages.plan import Plan, PlannedStage
from quell.slurm.stages.schema import Condition, Resources
from quell.slurm.submission import executor
from quell.slurm.submission.executor import JobRequest


def dry_run(plan: Plan, chosen: Sequence[str]) -> str:
    """The whole plan as text; writes nothing and needs no SLURM."""
    lines = list(_graph_lines(plan, chosen))
    for name in chosen:
        lines += _details(plan, plan.stages[name], chosen)
    return "\n".join(lines) + "\n"


def _graph_lines(plan: Plan, chosen: Sequence[str]) -> Iterator[str]:
    """The stages in the order in which they run."""
    yield f"{plan.name}: {len(chosen)} of {len(plan.stages)} stages -> {plan.root}"
    width = max(map(len, plan.stages))
    for name, stage in plan.stages.items():
        settings = stage.settings
        waits_for = (
            ", ".join(f"{predecessor} ({condition})" for predecessor, condition in settings.waits_for.items())
            or "nothing"
        )
        for job, condition in settings.waits_for_jobs.items():
            waits_for = f"{waits_for}, job {job} ({condition})".removeprefix("nothing, ")
        left_out = "" if name in chosen else "  [not chosen]"
        yield f"  {name:{width}}  {_work(stage)}; {_size(settings.resources)}; waits for {waits_for}{left_out}"
        if init := settings.init_from:
            parts = ", ".join(init.parts) or "all networks"
            yield f"  {'':{width}}  starts from {init.stage}: {parts}, {init.which} checkpoint"
        if settings.use:
            yield f"  {'':{width}}  applies the changes chosen by {settings.use}"


def _details(plan: Plan, stage: PlannedStage, chosen: Sequence[str]) -> Iterator[str]:
    """The sbatch script of a stage, and what each of its tasks runs."""
    after: dict[str, Condition] = {
        f"<{predecessor}>": condition
        for predecessor, condition in stage.settings.waits_for.items()
        if predecessor in chosen
    }
    after |= stage.settings.waits_for_jobs
    request = JobRequest(stage, stage.tasks, plan.site, plan.root, after=after, hold=not after)
    yield f"\n==== {stage.name}: sbatch script"
    yield executor.script(request).rstrip()
    for task in stage.tasks:
        yield f"\n==== {task.name}: runs"
        yield shlex.join(["python", *task.arguments]) if task.arguments else f"choose from {', '.join(task.candidates)}"
        if task.name in stage.configs:
            yield f"\n==== {task.name}: configuration"
            yield stage.configs[task.name].rstrip()


def _work(stage: PlannedStage) -> str:
    """What a stage does, in a few words."""
    settings = stage.settings
    if settings.pick:
        return f"pick {settings.pick.stage} by {settings.pick.mode} {settings.pick.metric}"
    if settings.command:
        return f"run {settings.command[0]}" + (f" for each of {settings.each}" if settings.each else "")
    members = [task.member for task in stage.tasks if task.member]
    return f"train {len(members)} members ({', '.join(members)})" if members else f"train {settings.config}"


def _size(resources: Resources) -> str:
    """What a stage requests, in a few words."""
    nodes = f"{resources.nodes} node{'s' if resources.nodes > 1 else ''}"
    tasks = f"{resources.tasks} task{'s' if resources.tasks > 1 else ''}"
    device = f"{resources.gpus_per_node} GPU" if resources.gpus_per_node else "CPU"
    return f"{nodes} x {tasks}, {device}, {resources.time_min} min"
