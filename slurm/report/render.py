"""What --dry-run prints: the graph, every sbatch script, every resolved configuration; nothing is written."""

from collections.abc import Iterator

from slurm.stages.plan import Plan
from slurm.stages.schema import Condition, Stage
from slurm.submission import executor
from slurm.submission.chain import title


def dry_run(plan: Plan, chosen: list[str]) -> str:
    """The whole plan as text; needs no SLURM."""
    return "\n".join([*graph_lines(plan, chosen), *_details(plan, chosen)]) + "\n"


def graph_lines(plan: Plan, chosen: list[str]) -> Iterator[str]:
    """One line a stage, in the order in which they run."""
    yield f"{plan.file.name}: {len(chosen)} of {len(plan.order)} stages -> {plan.root}"
    width = max(map(len, plan.order))
    for name in plan.order:
        stage = plan.stage(name)
        waits = ", ".join(f"{other} ({condition})" for other, condition in stage.waits_for.items()) or "nothing"
        left_out = "" if name in chosen else "  [not chosen]"
        yield f"  {name:{width}}  {_kind(plan, name)}; {_size(stage)}; waits for {waits}{left_out}"
        if stage.init_from:
            parts = ", ".join(stage.init_from.parts) or "all networks"
            yield f"  {'':{width}}  starts from {stage.init_from.stage}: {parts}, {stage.init_from.which} checkpoint"
        if stage.use:
            yield f"  {'':{width}}  takes the changes chosen by {stage.use}"


def _details(plan: Plan, chosen: list[str]) -> Iterator[str]:
    for name in chosen:
        tasks, stage = plan.tasks[name], plan.stage(name)
        after: dict[str, Condition] = {f"<{other}>": how for other, how in stage.waits_for.items() if other in chosen}
        yield f"\n==== {name}: sbatch script"
        yield executor.script(
            name, tasks, stage, plan.file.site, root=plan.root, after=after, hold=not after, title=title(plan, name)
        ).rstrip()
        for task in tasks:
            yield f"\n==== {task.name}: runs"
            yield (
                " ".join(["python", *task.arguments]) if task.arguments else f"choose from {', '.join(task.candidates)}"
            )
            if task.name in plan.configs:
                yield f"\n==== {task.name}: configuration"
                yield plan.configs[task.name].rstrip()


def _kind(plan: Plan, name: str) -> str:
    stage = plan.stage(name)
    if stage.pick:
        return f"pick {stage.pick.stage} by {stage.pick.mode} {stage.pick.metric}"
    if stage.command:
        return f"run {stage.command[0]}" + (f" for each of {stage.each}" if stage.each else "")
    members = [task.member for task in plan.tasks[name] if task.member]
    return f"train {len(members)} members ({', '.join(members)})" if members else f"train {stage.config}"


def _size(stage: Stage) -> str:
    wanted = stage.resources
    device = f"{wanted.gpus_per_node} GPU" if wanted.gpus_per_node else "CPU"
    each = (
        f"{wanted.nodes} node{'s' if wanted.nodes > 1 else ''} x {wanted.tasks} task{'s' if wanted.tasks > 1 else ''}"
    )
    return f"{each}, {device}, {wanted.time_min} min"
