"""The plan of a stage file: the tasks of every job, all checked before anything runs."""

from dataclasses import dataclass, replace
from pathlib import Path

from quell.configs.errors import ConfigError, MachineError
from quell.configs.locations import name_problem
from quell.slurm.stages import command_tasks, graph, pick_tasks, training_tasks
from quell.slurm.stages.read import StageGraph
from quell.slurm.stages.schema import Stage
from quell.slurm.stages.site import Site
from quell.slurm.stages.task import StageTasks, Task
from quell.slurm.stages.training_tasks import CONFIG_FILE


@dataclass(frozen=True)
class PlannedStage:
    """A stage with its tasks: a single one, or one for each member of a sweep."""

    name: str
    job_name: str
    """The name in SLURM's queue."""
    settings: Stage
    tasks: tuple[Task, ...]
    configs: dict[str, str]
    """The resolved configuration of each training task as YAML, by task name."""

    def write(self, task: Task) -> None:
        """Write what the job of a task reads to the shared disk."""
        try:
            task.write()
            if task.name in self.configs:
                (Path(task.folder) / CONFIG_FILE).write_text(self.configs[task.name], encoding="utf-8")
        except OSError as error:
            raise MachineError(f"cannot write {task.folder} ({error.strerror}): choose another --run-dir") from error


@dataclass(frozen=True)
class Plan:
    """All stages of a stage file, to be run in one folder."""

    name: str
    root: Path
    site: Site
    stages: dict[str, PlannedStage]
    """By name, in the order in which they run."""

    def from_snapshot(self, code: Path, commit: str) -> "Plan":
        """The same plan, run from a snapshot of the code.

        The runs find the commit in $QUELL_COMMIT. git must not look for one itself: in a snapshot inside the checkout
        it would report whatever is checked out later.
        """
        known = {"QUELL_COMMIT": commit, "GIT_CEILING_DIRECTORIES": str(code.parent)}

        def from_snapshot(task: Task) -> Task:
            return task.model_copy(update={"code": str(code), "environment": {**known, **task.environment}})

        stages = {
            name: replace(stage, tasks=tuple(map(from_snapshot, stage.tasks))) for name, stage in self.stages.items()
        }
        return replace(self, stages=stages)


def make(stage_graph: StageGraph, root: Path) -> Plan:
    """Plan the stages of a file, to be run in `root`.

    Raises:
        ConfigError: With every problem of every stage.
    """
    problems = [*stage_graph.problems, *graph.check(stage_graph.stages)]
    if "%" in str(root) or "\\" in str(root):
        problems.append(
            f"'{root}' contains % or \\, which SLURM replaces in the names of logs: choose another --run-dir"
        )
    if problem := name_problem(stage_graph.name):
        problems.append(f"name: {problem}")
    stages = {}
    for name in graph.order(stage_graph.stages):
        built = _build(stage_graph, root, name)
        problems += built.problems
        job_name = f"{stage_graph.name}.{name}"
        stages[name] = PlannedStage(name, job_name, stage_graph.stages[name], tuple(built.tasks), built.configs)
    if problems:
        raise ConfigError(problems, source=stage_graph.name)
    return Plan(stage_graph.name, root, stage_graph.site, stages)


def _build(stage_graph: StageGraph, root: Path, name: str) -> StageTasks:
    """The tasks of a stage, by the kind of its work; none if it is invalid and has no kind."""
    stage = stage_graph.stages[name]
    if stage.command:
        return command_tasks.build(stage_graph, root, name)
    if stage.pick:
        return pick_tasks.build(stage_graph, root, name)
    if stage.config or stage.members:
        return training_tasks.build(stage_graph, root, name)
    return StageTasks()
