"""The runs of a stage: one, or the members of a sweep, with their names, configurations and changes."""

import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm.stages.schema import Stage


@dataclass(frozen=True)
class Variant:
    """One run of a stage: which configuration, changed how."""

    config: str
    overrides: dict[str, Any]


def variants(stage: Stage) -> dict[str, Variant]:
    """The runs of a training stage by member name; one with an empty name when it is no sweep."""
    if stage.members:
        return {
            name: Variant(member.config or str(stage.config), {**stage.overrides, **member.overrides})
            for name, member in stage.members.items()
        }
    if stage.grid:
        points = [dict(zip(stage.grid, values, strict=True)) for values in itertools.product(*stage.grid.values())]
        return {_name(point): Variant(str(stage.config), {**stage.overrides, **point}) for point in points}
    return {"": Variant(str(stage.config), stage.overrides)}


def changes(sweep: Stage, member: str) -> tuple[str, ...]:
    """What sets one member of a sweep apart, as `a.b=c` words: its own changes, without those of the whole stage."""
    if sweep.members:
        return words(sweep.members[member].overrides)
    return words({key: value for key, value in variants(sweep)[member].overrides.items() if key in sweep.grid})


def words(overrides: dict[str, Any]) -> tuple[str, ...]:
    """Overrides as `a.b=c` words."""
    return tuple(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in overrides.items())


def run_dir(root: Path, stage: str, member: str = "") -> Path:
    """The run folder of a stage or of one member of a sweep."""
    return root / stage / member if member else root / stage


def _name(point: dict[str, Any]) -> str:
    """A folder name for one point of a grid: the values, with the last part of each key when there are several."""
    named = [(key.split(".")[-1], re.sub(r"[^\w.+-]+", "-", str(value)).strip("-")) for key, value in point.items()]
    return named[0][1] if len(named) == 1 else "_".join(f"{key}-{value}" for key, value in named)
