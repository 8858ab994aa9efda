"""The order of stages, and every way in which a graph of stages cannot run."""

import re

from configs.support.suggestions import did_you_mean
from slurm.stages.schema import Stage

PLACEHOLDER = re.compile(r"\{([\w.*-]+)\}")
"""`{stage}`, `{stage.member}`, `{stage.*}`, `{each}` and `{here}` in the words of a command."""


def check(stages: dict[str, Stage]) -> list[str]:
    """Every problem between stages: unknown names, cycles, weights and choices taken from stages that have none."""
    problems = []
    for name, stage in stages.items():
        where = f"stages.{name}"
        unknown = [other for other in stage.waits_for if other not in stages]
        problems += [f"{where}: waits for '{other}', {did_you_mean(other, list(stages))}" for other in unknown]
        problems += [f"{where}.{text}" for text in _taken(name, stage, stages)]
    cycle = find_cycle(stages)
    if cycle:
        problems.append("stages: " + " -> ".join(cycle) + " go round in a circle: each waits for the next")
    else:
        problems += [
            f"stages.{name}.command: {text}" for name, stage in stages.items() for text in _words(name, stages)
        ]
    return problems


def order(stages: dict[str, Stage]) -> list[str]:
    """Names such that each comes after all it waits for; otherwise in the order of the file."""
    done: list[str] = []
    while len(done) < len(stages):
        ready = [name for name in stages if name not in done and set(stages[name].waits_for) <= set(done)]
        assert ready, "check() finds cycles and unknown names first"
        done.append(ready[0])
    return done


def ancestors(stages: dict[str, Stage], name: str) -> set[str]:
    """Every stage that ends before `name` starts."""
    found: set[str] = set()
    waiting = list(stages[name].waits_for)
    while waiting:
        current = waiting.pop()
        if current in stages and current not in found:
            found.add(current)
            waiting += stages[current].waits_for
    return found


def select(stages: dict[str, Stage], *, only: str | None = None, start: str | None = None) -> list[str]:
    """The stages to run, in order: one, or one and all that come after it, or all."""
    names = order(stages)
    if only is not None:
        return [only]
    if start is not None:
        return [name for name in names if name == start or start in ancestors(stages, name)]
    return names


def find_cycle(stages: dict[str, Stage]) -> list[str]:
    """The names along one cycle, the first one repeated at the end; empty when there is none."""
    left = dict(stages)
    while left:
        free = [name for name, stage in left.items() if not set(stage.waits_for) & set(left)]
        if not free:
            break
        for name in free:
            del left[name]
    if not left:
        return []
    path = [next(iter(left))]
    while path[-1] not in path[:-1]:
        path.append(next(other for other in left[path[-1]].waits_for if other in left))
    return path[path.index(path[-1]) :]


def _taken(name: str, stage: Stage, stages: dict[str, Stage]) -> list[str]:
    """What a stage takes from another that does not give it."""
    problems = []
    source = stages.get(stage.init_from.stage) if stage.init_from else None
    if stage.init_from and source and source.sweep:
        problems.append(
            f"init_from: '{stage.init_from.stage}' is a sweep of several runs; add a pick stage and start from that"
        )
    if stage.init_from and source and not source.trains and not source.pick:
        problems.append(f"init_from: '{stage.init_from.stage}' does not train, so there is no checkpoint to start from")
    if stage.use and stage.use in stages and stages[stage.use].pick is None:
        picks = [other for other, item in stages.items() if item.pick]
        problems.append(f"use: '{stage.use}' is not a pick stage; {did_you_mean(stage.use, picks)}")
    if stage.pick and stage.pick.stage in stages and not stages[stage.pick.stage].sweep:
        problems.append(f"pick: '{stage.pick.stage}' is not a sweep: there is nothing to choose from")
    if stage.each and stage.each in stages and not stages[stage.each].sweep:
        problems.append(f"each: '{stage.each}' is not a sweep; write {{{stage.each}}} in the command instead")
    for other in {stage.init_from.stage if stage.init_from else None, stage.use} - {None}:
        if stage.after.get(str(other)) == "afternotok":
            problems.append(f"after.{other}: this stage needs what '{other}' makes, so it cannot wait for its failure")
    return problems


def _words(name: str, stages: dict[str, Stage]) -> list[str]:
    """Placeholders of a command that name nothing, or a stage that may not have ended."""
    problems = []
    before = ancestors(stages, name)
    for placeholder in PLACEHOLDER.findall(" ".join(stages[name].command)):
        stage, _, member = placeholder.partition(".")
        if placeholder == "here" or (placeholder == "each" and stages[name].each):
            continue
        if stage not in stages:
            problems.append(f"{{{placeholder}}} names no stage; {did_you_mean(stage, [*stages, 'here'])}")
        elif stage not in before:
            problems.append(f"{{{placeholder}}} is read, so add '{stage}' to after")
        elif not stages[stage].sweep and member:
            problems.append(f"{{{placeholder}}}: '{stage}' is not a sweep, write {{{stage}}}")
    return problems
