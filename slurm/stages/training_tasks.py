"""The tasks of a stage that trains: each with its configuration, checked as it will be when the job starts."""

import json
from pathlib import Path

from quell.configs import loader
from quell.configs.errors import ConfigError
from quell.configs.schema import RunConfig
from quell.configs.support.paths import resolve
from quell.slurm.stages import preflight
from quell.slurm.stages.graph import data_may_be_built
from quell.slurm.stages.read import StageGraph
from quell.slurm.stages.schema import Stage
from quell.slurm.stages.sweep import Variant, as_arguments, member_changes, name_problems, run_dir, variants
from quell.slurm.stages.task import StageTasks, digest, new_task, task_name

CONFIG_FILE = "config.yaml"
CHOICE_FILE = "choice.json"


def build(graph: StageGraph, root: Path, name: str) -> StageTasks:
    """One task, or one for each member of a sweep; those whose configuration is invalid are left out."""
    stage = graph.stages[name]
    built = StageTasks(problems=[f"stages.{name}.{problem}" for problem in name_problems(stage)])
    for member, variant in variants(stage).items():
        overrides = _overrides(graph, root, name, variant)
        config, problems = _load(graph, name, variant, overrides)
        built.problems += [f"stages.{task_name(name, member)}: {problem}" for problem in problems]
        if config is not None:
            _add(built, graph, root, name, member, config)
    return built


def _add(built: StageTasks, graph: StageGraph, root: Path, name: str, member: str, config: RunConfig) -> None:
    """Add the task that trains `config`; a winner's changes are not in it, they are added when the job starts."""
    stage = graph.stages[name]
    pick = _weights_from_pick(graph, stage)
    text = loader.dump(_with_absolute_data(config))
    choices = {source: str(run_dir(root, source) / CHOICE_FILE) for source in (stage.use, pick) if source}
    task = new_task(
        root, graph.site, stage, name, member, kind="train", use=stage.use, choices=choices,
        init_from=stage.init_from if pick else None, settings=as_arguments(graph.settings),
        digest=digest(text, stage.use, choices),
    )  # fmt: skip
    config_file = f"{task.folder}/{CONFIG_FILE}"
    arguments = ("launch/train.py", "--config", config_file, "--run-dir", task.run_dir, "--resume", "auto")
    built.tasks.append(task.model_copy(update={"arguments": arguments}))
    built.configs[task.name] = text


def _overrides(graph: StageGraph, root: Path, name: str, variant: Variant) -> list[str]:
    """The changes of the stage file, of the stage and of the command line, and where its weights come from."""
    overrides = [*as_arguments({**graph.overrides, **variant.overrides}), *as_arguments(graph.settings)]
    init = graph.stages[name].init_from
    if init is None or init.stage not in graph.stages:
        return overrides
    run = run_dir(root, init.stage)
    pick = graph.stages[init.stage].pick
    if pick and pick.stage in graph.stages:  # the winner is not known yet: the first member stands in for it
        run = run_dir(root, pick.stage, next(iter(variants(graph.stages[pick.stage]))))
    value = {"run": str(run), "parts": list(init.parts), "which": init.which}
    return [*overrides, f"init_from={json.dumps(value)}"]


def _load(graph: StageGraph, name: str, variant: Variant, overrides: list[str]) -> tuple[RunConfig | None, list[str]]:
    """The configuration, or its problems in combination with the changes of every member that may win its pick."""
    stage = graph.stages[name]
    may_be_built = data_may_be_built(graph.stages, name)
    problems: list[str] = []
    for changes in _possible_changes(graph, stage):
        try:
            config = loader.load(_file(variant), [*overrides, *changes, *as_arguments(graph.settings)])
            problems += preflight.check(stage, config, data_may_be_built=may_be_built)
        except ConfigError as error:
            problems += error.problems
    if problems:
        return None, list(dict.fromkeys(problems))
    return loader.load(_file(variant), overrides) if stage.use else config, []


def _file(variant: Variant) -> Path:
    """The configuration's file: from where relative paths start, else one that comes with the project."""
    file = resolve(variant.config)
    shipped = loader.find_file(variant.config)
    return shipped if shipped.is_file() and not file.is_file() else file


def _possible_changes(graph: StageGraph, stage: Stage) -> list[tuple[str, ...]]:
    """The changes of each member that may win; a single empty set if the stage uses no pick."""
    pick = graph.stages[stage.use].pick if stage.use in graph.stages else None
    sweep = graph.stages.get(pick.stage) if pick else None
    return [member_changes(sweep, member) for member in variants(sweep)] if sweep else [()]


def _weights_from_pick(graph: StageGraph, stage: Stage) -> str | None:
    """The pick from whose winner's weights a stage starts; None if it starts from no pick."""
    source = stage.init_from.stage if stage.init_from else None
    return source if source in graph.stages and graph.stages[str(source)].pick else None


def _with_absolute_data(config: RunConfig) -> RunConfig:
    """The same run, with a data folder that does not depend on where the code lies."""
    if "://" in config.data.root:
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"root": str(resolve(config.data.root))})})
