"""What a submission does with each chosen stage: submit it, keep it, or replace its job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from quell.configs.errors import ConfigError
from quell.slurm.stages.plan import Plan, PlannedStage
from quell.slurm.stages.task import Task
from quell.slurm.submission import state
from quell.slurm.submission.client import QueuedJob
from quell.slurm.submission.manifest import Manifest


@dataclass
class Decisions:
    """What a submission is going to do."""

    submit: dict[str, tuple[Task, ...]] = field(default_factory=dict)
    """The tasks to submit, by stage in order."""
    keep: dict[str, str] = field(default_factory=dict)
    """Why a stage is not submitted."""
    replace: list[str] = field(default_factory=list)
    """Jobs to cancel first: they wait for a job that is replaced."""


def decide(plan: Plan, chosen: Sequence[str], manifest: Manifest, queue: Mapping[str, QueuedJob]) -> Decisions:
    """Decide what to submit.

    Raises:
        ConfigError: With every stage that cannot be submitted now.
    """
    decisions, problems = Decisions(), []
    for name in chosen:
        stage = plan.stages[name]
        submitted = manifest.tasks(name)
        states = {task: state.task_status(manifest, name, submitted[task], queue).state for task in submitted}
        active = set(states.values()) & set(state.ACTIVE)
        unfinished = tuple(task for task in stage.tasks if states.get(task.name) != state.FINISHED)
        waits_for = stage.settings.waits_for
        failures = {predecessor: how for predecessor, how in waits_for.items() if how == "afternotok"}
        # A waiting job depends on the ids of its predecessors' jobs: if one of these is submitted again, so is it.
        is_outdated = active == {state.WAITING} and not waits_for.keys().isdisjoint(decisions.submit)
        problems += changed_settings(stage, manifest)
        if not unfinished:
            decisions.keep[name] = "finished, kept"
        elif not_needed := state.blocked_by(manifest, failures):
            decisions.keep[name] = not_needed
        elif active and not is_outdated:
            decisions.keep[name] = f"in the queue as job {manifest.stages[name].job}, kept"
        else:
            if active:
                decisions.replace += manifest.stages[name].last_first
            problems += missing_stages(stage, chosen, manifest, queue)
            decisions.submit[name] = unfinished
    if problems:
        raise ConfigError(problems, source=plan.name)
    return decisions


def changed_settings(stage: PlannedStage, manifest: Manifest) -> list[str]:
    """Problems of finished tasks whose settings differ from those in the stage file."""
    submitted = manifest.tasks(stage.name)
    return [
        f"stages.{stage.name}: {task.run_dir} holds a finished run with other settings: choose another name "
        "(--set name=...) or --run-dir, or remove that folder"
        for task in stage.tasks
        if task.name in submitted
        and submitted[task.name].digest != task.digest
        and state.is_finished(submitted[task.name])
    ]


def missing_stages(
    stage: PlannedStage, chosen: Sequence[str], manifest: Manifest, queue: Mapping[str, QueuedJob]
) -> list[str]:
    """Problems of stages that have to succeed first, but are neither chosen nor finished nor in the queue."""
    problems = []
    for predecessor, condition in stage.settings.waits_for.items():
        in_queue = predecessor in manifest.stages and manifest.stages[predecessor].in_queue(queue)
        if condition == "afterok" and not (
            predecessor in chosen or in_queue or state.stage_finished(manifest, predecessor)
        ):
            problems.append(
                f"stages.{stage.name}: starts after {predecessor}, which has not finished here: submit it too, "
                "or drop --only"
            )
    return problems
