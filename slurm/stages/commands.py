"""The words of a command with folders in place of its placeholders."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from configs.support.paths import resolve
from slurm.stages.graph import PLACEHOLDER
from slurm.stages.schema import Stage
from slurm.stages.sweep import run_dir, variants

_MEMBERS = re.compile(r"\{([\w-]+)\.\*\}")


def fill(stages: Mapping[str, Stage], root: Path, name: str, member: str) -> tuple[str, ...]:
    """The command of a stage for one member of the sweep it goes over; `{sweep.*}` becomes one word for each member."""
    done: list[str] = []
    for word in stages[name].command:
        many = _MEMBERS.fullmatch(word)
        if many and many[1] in stages:
            done += [str(run_dir(root, many[1], other)) for other in variants(stages[many[1]])]
        else:
            done.append(PLACEHOLDER.sub(_filler(stages, root, name, member), word))
    return tuple(done)


def problems(stage: Stage) -> list[str]:
    """What keeps a command from starting."""
    script = stage.command[0]
    missing = script.endswith(".py") and not resolve(script).is_file()
    return [f"no script {resolve(script)}"] if missing else []


def _filler(stages: Mapping[str, Stage], root: Path, name: str, member: str) -> Callable[[re.Match[str]], str]:
    def folder(found: re.Match[str]) -> str:
        if found[1] == "here":
            return str(run_dir(root, name, member))
        if found[1] == "each":
            return str(run_dir(root, str(stages[name].each), member))
        return str(run_dir(root, *found[1].split(".", 1)))

    return folder
