"""The tasks of a stage with a `command`: its arguments with folders in place of the placeholders."""

import re
from collections.abc import Iterator
from pathlib import Path

from quell.configs.support.paths import ROOT, resolve
from quell.slurm.stages.graph import PLACEHOLDER
from quell.slurm.stages.read import StageGraph
from quell.slurm.stages.sweep import run_dir, variants
from quell.slurm.stages.task import StageTasks, digest, new_task

_ALL_MEMBERS = re.compile(r"\{([\w-]+)\.\*\}")


def build(graph: StageGraph, root: Path, name: str) -> StageTasks:
    """One task, or with `each` one for every member of that sweep."""
    stage = graph.stages[name]
    script = stage.command[0]
    is_missing = script.endswith(".py") and not (resolve(script).is_file() or (ROOT / script).is_file())
    built = StageTasks(problems=[f"stages.{name}.command: no script {resolve(script)}"] if is_missing else [])
    sweep = graph.stages.get(stage.each or "")
    for member in variants(sweep) if sweep else [""]:
        arguments = tuple(_arguments(graph, root, name, member))
        fingerprint = digest(*stage.command, member)
        task = new_task(root, graph.site, stage, name, member, kind="command", arguments=arguments, digest=fingerprint)
        built.tasks.append(task)
    return built


def _arguments(graph: StageGraph, root: Path, name: str, member: str) -> Iterator[str]:
    """The command of a stage for one member; `{sweep.*}` becomes one argument for each member of that sweep."""
    stage = graph.stages[name]

    def folder(placeholder: re.Match[str]) -> str:
        if placeholder[1] == "here":
            return str(run_dir(root, name, member))
        if placeholder[1] == "each":
            return str(run_dir(root, str(stage.each), member))
        return str(run_dir(root, *placeholder[1].split(".", 1)))

    for argument in stage.command:
        all_members = _ALL_MEMBERS.fullmatch(argument)
        if all_members and all_members[1] in graph.stages:
            sweep = all_members[1]
            yield from (str(run_dir(root, sweep, sweep_member)) for sweep_member in variants(graph.stages[sweep]))
        else:
            yield PLACEHOLDER.sub(folder, argument)
