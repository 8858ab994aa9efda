"""The runs of a training stage: a single one, or the members of a sweep."""

import itertools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quell.configs.locations import name_problem
from quell.slurm.stages.schema import Overrides, Stage


@dataclass(frozen=True)
class Variant:
    """One run of a stage: a configuration and the keys to change in it."""

    config: str
    overrides: Overrides


def variants(stage: Stage) -> dict[str, Variant]:
    """The runs of a training stage by member name; a single one with an empty name if it is no sweep."""
    if stage.members:
        return {
            name: Variant(member.config or str(stage.config), {**stage.overrides, **member.overrides})
            for name, member in stage.members.items()
        }
    if stage.grid:
        points = [dict(zip(stage.grid, values, strict=True)) for values in itertools.product(*stage.grid.values())]
        return {_point_name(point): Variant(str(stage.config), {**stage.overrides, **point}) for point in points}
    return {"": Variant(str(stage.config), stage.overrides)}


def name_problems(stage: Stage) -> list[str]:
    """Why the points of a grid cannot have folders of their own: names that are equal, or too long."""
    names = list(variants(stage)) if stage.grid else []
    points = math.prod(map(len, stage.grid.values())) if stage.grid else 0
    problems = [f"grid: {problem}" for name in names if (problem := name_problem(name))]
    if len(names) < points:
        problems.append(f"grid: {points} points have only {len(names)} different folder names; write a list with names")
    return problems


def member_changes(sweep: Stage, member: str) -> tuple[str, ...]:
    """The `a.b=c` overrides that distinguish one member of a sweep from the others."""
    if sweep.members:
        return as_arguments(sweep.members[member].overrides)
    point = variants(sweep)[member].overrides
    return as_arguments({key: value for key, value in point.items() if key in sweep.grid})


def as_arguments(overrides: Mapping[str, object]) -> tuple[str, ...]:
    """Overrides as `a.b=c` command-line arguments."""
    return tuple(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in overrides.items())


def run_dir(root: Path, stage: str, member: str = "") -> Path:
    """The run folder of a stage, or of one member of a sweep."""
    return root / stage / member if member else root / stage


def _point_name(point: Mapping[str, object]) -> str:
    """A folder name for one point of a grid: its values, labelled with the last part of each key if several."""
    labelled = [
        (key.split(".")[-1], re.sub(r"[^\w.+-]+", "-", str(value)).strip("-.") or "empty")
        for key, value in point.items()
    ]
    return labelled[0][1] if len(labelled) == 1 else "_".join(f"{label}-{value}" for label, value in labelled)
