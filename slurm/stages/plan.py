"""Stages -> the tasks of every job, with every configuration loaded and every input looked for before anything runs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from configs import loader
from configs.errors import ConfigError
from configs.schema import RunConfig
from configs.support.paths import ROOT, resolve
from slurm.stages import commands, graph, preflight
from slurm.stages.read import Stages
from slurm.stages.schema import Stage
from slurm.stages.sweep import Variant, changes, run_dir, variants, words
from slurm.stages.task import Task, digest_of

CONFIG_FILE = "config.yaml"
CHOICE_FILE = "choice.json"


@dataclass
class Plan:
    """All tasks of a stage file under one folder."""

    file: Stages
    root: Path
    order: list[str] = field(default_factory=list)
    tasks: dict[str, list[Task]] = field(default_factory=dict)
    """Per stage: one task, or one for each member of a sweep."""
    configs: dict[str, str] = field(default_factory=dict)
    """Resolved configuration of each training task as YAML, by task name."""

    def stage(self, name: str) -> Stage:
        """A stage by name."""
        return self.file.stages[name]


def make(file: Stages, root: Path) -> Plan:
    """The plan of a stage file, run into `root`; ConfigError with every problem of every stage."""
    problems = list(file.problems) + graph.check(file.stages)
    plan = Plan(file, root)
    if not graph.find_cycle(file.stages) and all(set(s.waits_for) <= set(file.stages) for s in file.stages.values()):
        plan.order = graph.order(file.stages)
    for name in plan.order or file.stages:
        plan.tasks[name] = list(_tasks(plan, name, problems))
    if problems:
        raise ConfigError(problems, source=file.name)
    return plan


def run_from(plan: Plan, code: Path, commit: str) -> Plan:
    """The same plan, run from a snapshot of the code, whose git commit the runs are told.

    git itself is kept from looking: a snapshot inside the checkout would pass for whatever is checked out later.
    """
    known = {"QUELL_COMMIT": commit, "GIT_CEILING_DIRECTORIES": str(code.parent)}

    def moved(task: Task) -> Task:
        return task.model_copy(update={"code": str(code), "environment": {**known, **task.environment}})

    return replace(plan, tasks={name: [moved(task) for task in tasks] for name, tasks in plan.tasks.items()})


def _tasks(plan: Plan, name: str, problems: list[str]) -> Iterator[Task]:
    stage = plan.stage(name)
    if stage.command:
        problems += [f"stages.{name}.command: {text}" for text in commands.problems(stage)]
        sweep = plan.file.stages.get(stage.each or "")
        for member in variants(sweep) if sweep else [""]:
            arguments = commands.fill(plan.file.stages, plan.root, name, member)
            yield _task(
                plan, name, member, kind="command", arguments=arguments, digest=digest_of(*stage.command, member)
            )
    elif stage.pick:
        sweep = plan.file.stages.get(stage.pick.stage)
        members = variants(sweep) if sweep else {}
        yield _task(
            plan, name, kind="pick", pick=stage.pick, digest=digest_of(stage.pick.model_dump(), list(members)),
            candidates={member: str(run_dir(plan.root, stage.pick.stage, member)) for member in members},
            changes={member: changes(sweep, member) for member in members if sweep},
        )  # fmt: skip
    elif stage.config or stage.members:
        for member, variant in variants(stage).items():
            yield _training(plan, name, member, variant, problems)


def _training(plan: Plan, name: str, member: str, variant: Variant, problems: list[str]) -> Task:
    """The task of one training run; its configuration is checked with every winner it may be combined with."""
    stage, winner = plan.stage(name), _winner_of(plan, plan.stage(name))
    task = _task(
        plan, name, member, kind="train", use=stage.use, init_from=stage.init_from if winner else None,
        choices={pick: str(run_dir(plan.root, pick) / CHOICE_FILE) for pick in (stage.use, winner) if pick},
    )  # fmt: skip
    base = [*words({**plan.file.overrides, **variant.overrides}), *_start(plan, stage)]
    made = any(plan.stage(other).command for other in graph.ancestors(plan.file.stages, name))
    found: list[str] = []
    for chosen in _possible_changes(plan, stage):
        try:
            config = loader.load(resolve(variant.config), [*base, *chosen])
            found += preflight.problems(stage, config, data_is_made=made)
        except ConfigError as error:
            found += error.problems
    if found:
        problems += [f"stages.{task.name}: {text}" for text in dict.fromkeys(found)]
        return task
    if stage.use:  # without the winner's changes: they are added when the job starts
        config = loader.load(resolve(variant.config), base)
    text = loader.dump(_absolute(config))
    plan.configs[task.name] = text
    script = ("launch/train.py", "--config", f"{task.folder}/{CONFIG_FILE}", "--run-dir", task.run_dir)
    digest = digest_of(text, stage.use, task.choices)
    return task.model_copy(update={"arguments": (*script, "--resume", "auto"), "digest": digest})


def _task(plan: Plan, name: str, member: str = "", **values: Any) -> Task:
    stage, environment = plan.stage(name), dict(plan.file.site.environment)
    if stage.resources.gpus_per_node == 0:
        environment = {"ACCELERATE_USE_CPU": "true", **environment}
    return Task(
        stage=name, member=member, run_dir=str(run_dir(plan.root, name, member)),
        folder=str(plan.root / "jobs" / (f"{name}.{member}" if member else name)),
        code=str(ROOT), environment=environment, max_requeues=stage.max_requeues, **values,
    )  # fmt: skip


def _start(plan: Plan, stage: Stage) -> tuple[str, ...]:
    """`init_from` as words; the run of a winner is a stand-in until the job starts."""
    if stage.init_from is None or stage.init_from.stage not in plan.file.stages:
        return ()
    pick = plan.stage(stage.init_from.stage).pick
    if pick and pick.stage in plan.file.stages:
        run = run_dir(plan.root, pick.stage, next(iter(variants(plan.stage(pick.stage)))))
    else:
        run = run_dir(plan.root, stage.init_from.stage)
    value = {"run": str(run), "parts": list(stage.init_from.parts), "which": stage.init_from.which}
    return (f"init_from={json.dumps(value)}",)


def _winner_of(plan: Plan, stage: Stage) -> str | None:
    """The pick whose winner's weights a stage starts from."""
    source = stage.init_from.stage if stage.init_from else None
    return source if source in plan.file.stages and plan.stage(str(source)).pick else None


def _possible_changes(plan: Plan, stage: Stage) -> list[tuple[str, ...]]:
    """The changes of every member that may win; one empty set when the stage uses no pick."""
    pick = plan.file.stages[stage.use].pick if stage.use in plan.file.stages else None
    sweep = plan.file.stages.get(pick.stage) if pick else None
    return [changes(sweep, member) for member in variants(sweep)] if sweep else [()]


def _absolute(config: RunConfig) -> RunConfig:
    """The same run with its data folder independent of where the code lies."""
    if "://" in config.data.root:
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"root": str(resolve(config.data.root))})})
