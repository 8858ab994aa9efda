"""Options of sbatch in `extra`: which the launcher sets itself, and what to write instead."""

import re
from collections.abc import Mapping
from typing import Any

OWNED = {
    "dependency": "write after: {jobs: [ID]}, which adds to the dependencies between stages",
    "array": "a sweep is an array by itself; resources.at_once limits it",
    "time": "write resources.time_min",
    "signal": "write resources.grace_s",
    "nodes": "write resources.nodes",
    "ntasks": "write resources.nodes and resources.tasks_per_node",
    "ntasks-per-node": "write resources.tasks_per_node",
    "cpus-per-task": "write resources.cpus_per_task",
    "job-name": "jobs are named after the stage file and the stage",
    "output": "the launcher's own commands find logs where it puts them",
    "error": "the launcher's own commands find logs where it puts them",
    "open-mode": "logs of all starts are appended",
    "chdir": "jobs run in the snapshot of the code",
    "wrap": "write a stage with a command",
    "parsable": "the launcher reads the job's id itself",
    "hold": "the launcher holds jobs until all stages are submitted, and then releases them",
}
"""Options that would break what the launcher does with them."""

_GPU_OPTIONS = ("gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket")


def check(options: dict[str, Any]) -> dict[str, Any]:
    """Refuse what is not the long name of an option, and options that the launcher sets."""
    for name in options:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
            raise ValueError(f"{name!r} is not the long name of an sbatch option")
        if remedy := OWNED.get(name.replace("_", "-")):
            raise ValueError(f"'{name}' is set by the launcher: {remedy}")
    return options


def as_flags(options: Mapping[str, object]) -> dict[str, object]:
    """Options as sbatch takes them: what is false is left out, and `requeue: false` is `--no-requeue`."""
    named = {name.replace("_", "-"): value for name, value in options.items()}
    if named.pop("requeue", True) is False:
        named["no-requeue"] = True
    return {name: value for name, value in named.items() if value is not False}


def request_gpus(options: Mapping[str, object]) -> bool:
    """Whether some options request GPUs: `gpus`, `gpus-per-task` and the like, or `gres: gpu:...`."""
    named = {name.replace("_", "-"): value for name, value in options.items()}
    if any(str(named.get(name, 0)).rpartition(":")[2] not in ("0", "False") for name in _GPU_OPTIONS):
        return True
    return any(re.match(r"(gres/)?gpu\b(?!.*:0$)", part) for part in str(named.get("gres", "")).split(","))
