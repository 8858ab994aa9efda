"""Whether the runs of a plan would start, asked of the code that starts them (launch/check.py), in one process."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from quell.configs import loader
from quell.configs.errors import ConfigError, MachineError
from quell.configs.support.logs import get_logger
from quell.configs.support.paths import ROOT, base, child_environment
from quell.slurm.stages.graph import data_may_be_built
from quell.slurm.stages.plan import Plan, PlannedStage
from quell.slurm.stages.task import Task

log = get_logger(__name__)


def refuse_what_would_not_start(plan: Plan, chosen: Sequence[str]) -> None:
    """Check data, fields, weights, packages and checkpoints of every run of the chosen stages.

    Data behind a URL is left to the jobs, as is data that an earlier stage may build. Where PyTorch is not installed,
    as on some login nodes, everything is.

    Raises:
        ConfigError: With the problems of all runs.
        MachineError: The check itself failed.
    """
    sources = [task.stage for name in chosen for task in _sources(plan, plan.stages[name])]
    requests = [
        request for name in dict.fromkeys([*chosen, *sources]) for request in _requests(plan, plan.stages[name])
    ]
    if not requests:
        return
    if importlib.util.find_spec("torch") is None:
        log.warning("PyTorch is not installed here: data, weights and packages are not checked before the jobs start")
        return
    command = [sys.executable, str(ROOT / "launch" / "check.py"), "--quiet"]
    done = subprocess.run(
        command, input=json.dumps(requests), capture_output=True, text=True, cwd=base(), env=child_environment()
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise MachineError(f"cannot check whether the stages would start: {last}")
    answer: dict[str, list[str]] = json.loads(done.stdout)
    ours = {task.name for name in chosen for task in plan.stages[name].tasks}
    problems = [f"stages.{name}: {problem}" for name in answer.keys() & ours for problem in answer[name]]
    if problems:
        raise ConfigError(sorted(set(problems)), source=plan.name)


def _requests(plan: Plan, stage: PlannedStage) -> Iterator[dict[str, Any]]:
    """What to ask about each run of a stage."""
    stages = {name: planned.settings for name, planned in plan.stages.items()}
    may_be_built = data_may_be_built(stages, stage.name)
    for task in stage.tasks:
        if task.name not in stage.configs:
            continue
        config = loader.structure(loader.parse(stage.configs[task.name]))
        if "://" in config.data.root or (may_be_built and not Path(config.data.root).is_dir()):
            continue
        yield {
            "name": task.name,
            "config": stage.configs[task.name],
            "run_dir": task.run_dir,
            "world": stage.settings.resources.world_size,
            "environment": task.environment,
            "on_cpu": not task.wants_gpus,
            "same_packages": not (plan.site.container or plan.site.python),
            "weights_of": [source.name for source in _sources(plan, stage)],
        }


def _sources(plan: Plan, stage: PlannedStage) -> Sequence[Task]:
    """The runs from one of whose weights a stage starts: those of a stage, or of the sweep from which one is picked."""
    init = stage.settings.init_from
    if init is None:
        return ()
    source = plan.stages[init.stage]
    return plan.stages[source.settings.pick.stage].tasks if source.settings.pick else source.tasks
