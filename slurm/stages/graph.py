"""The order of stages, and every reason why a graph of stages cannot run."""

import re
from collections.abc import Mapping

from quell.configs.support.suggestions import did_you_mean
from quell.slurm.stages.schema import Stage

PLACEHOLDER = re.compile(r"\{([\w.*-]+)\}")
"""`{stage}`, `{stage.member}`, `{stage.*}`, `{each}` and `{here}` in the arguments of a command."""


def check(stages: Mapping[str, Stage]) -> list[str]:
    """All problems between stages: unknown names, cycles, weights or choices taken from stages that have none."""
    problems = []
    for name, stage in stages.items():
        unknown = [predecessor for predecessor in stage.waits_for if predecessor not in stages]
        problems += [
            f"stages.{name}: waits for '{predecessor}', {did_you_mean(predecessor, list(stages))}"
            for predecessor in unknown
        ]
        problems += [f"stages.{name}.{problem}" for problem in _source_problems(stage, stages)]
    cycle = _find_cycle(stages)
    if cycle:
        problems.append(f"stages: {' -> '.join(cycle)} is a cycle: each of these stages waits for the next")
        return problems
    for name in stages:
        problems += [f"stages.{name}.command: {problem}" for problem in _placeholder_problems(name, stages)]
    return problems


def order(stages: Mapping[str, Stage]) -> list[str]:
    """The names such that each stage follows all it waits for, otherwise in the order of the file.

    Stages that are in a cycle or wait for an unknown stage, which `check` reports, come last.
    """
    ordered: list[str] = []
    waiting = list(stages)
    while waiting:
        name = next((name for name in waiting if set(stages[name].waits_for) <= set(ordered)), None)
        if name is None:
            return ordered + waiting
        ordered.append(name)
        waiting.remove(name)
    return ordered


def ancestors(stages: Mapping[str, Stage], name: str) -> set[str]:
    """Every stage that has ended before `name` starts."""
    visited: set[str] = set()
    waiting = list(stages[name].waits_for)
    while waiting:
        current = waiting.pop()
        if current in stages and current not in visited:
            visited.add(current)
            waiting += stages[current].waits_for
    return visited


def data_may_be_built(stages: Mapping[str, Stage], name: str) -> bool:
    """Whether a stage before `name` runs a command, which may build its data."""
    return any(stages[ancestor].command for ancestor in ancestors(stages, name))


def select(stages: Mapping[str, Stage], *, only: str | None = None, start: str | None = None) -> list[str]:
    """The stages to run, in order: `only` this one, `start` and all that depend on it, or all."""
    if only is not None:
        return [only]
    if start is not None:
        return [name for name in order(stages) if name == start or start in ancestors(stages, name)]
    return order(stages)


def _find_cycle(stages: Mapping[str, Stage]) -> list[str]:
    """The names along one cycle, with the first one repeated at the end; empty if there is none."""
    remaining = dict(stages)
    while remaining:
        free = [name for name, stage in remaining.items() if not set(stage.waits_for) & set(remaining)]
        if not free:
            break
        for name in free:
            del remaining[name]
    if not remaining:
        return []
    path = [next(iter(remaining))]
    while path[-1] not in path[:-1]:
        path.append(next(name for name in remaining[path[-1]].waits_for if name in remaining))
    return path[path.index(path[-1]) :]


def _source_problems(stage: Stage, stages: Mapping[str, Stage]) -> list[str]:
    """What a stage expects of another stage that cannot provide it."""
    problems = []
    source = stages.get(stage.init_from.stage) if stage.init_from else None
    if stage.init_from and source and source.is_sweep:
        problems.append(
            f"init_from: '{stage.init_from.stage}' is a sweep of several runs; add a pick stage and start from that"
        )
    if stage.init_from and source and not source.trains and not source.pick:
        problems.append(f"init_from: '{stage.init_from.stage}' does not train, so there is no checkpoint to start from")
    if stage.use and stage.use in stages and stages[stage.use].pick is None:
        picks = [name for name in stages if stages[name].pick]
        problems.append(f"use: '{stage.use}' is not a pick stage; {did_you_mean(stage.use, picks)}")
    if stage.pick and stage.pick.stage in stages and not stages[stage.pick.stage].is_sweep:
        problems.append(f"pick: '{stage.pick.stage}' is not a sweep: there is nothing to choose from")
    if stage.each and stage.each in stages and not stages[stage.each].is_sweep:
        problems.append(f"each: '{stage.each}' is not a sweep; write {{{stage.each}}} in the command instead")
    for name in {stage.init_from.stage if stage.init_from else None, stage.use} - {None}:
        if stage.after.get(str(name)) == "afternotok":
            problems.append(
                f"after.{name}: this stage needs the results of '{name}', so it cannot wait for its failure"
            )
    return problems


def _placeholder_problems(name: str, stages: Mapping[str, Stage]) -> list[str]:
    """Placeholders of a command that name no stage, or one that may not have ended yet."""
    problems = []
    earlier = ancestors(stages, name)
    for placeholder in PLACEHOLDER.findall(" ".join(stages[name].command)):
        stage, _, member = placeholder.partition(".")
        if placeholder == "here" or (placeholder == "each" and stages[name].each):
            continue
        if stage not in stages:
            problems.append(f"{{{placeholder}}} is not a stage; {did_you_mean(stage, [*stages, 'here'])}")
        elif stage not in earlier:
            problems.append(f"{{{placeholder}}} is used, so add '{stage}' to after")
        elif not stages[stage].is_sweep and member:
            problems.append(f"{{{placeholder}}}: '{stage}' is not a sweep, write {{{stage}}}")
    return problems
