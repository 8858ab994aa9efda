"""The options of sbatch by which a site is asked for GPUs and memory, and those that it or a stage sets by name."""

import math

from quell.slurm.stages.schema import Resources
from quell.slurm.stages.site import Site

_PASSED_ON = ("reservation", "exclude", "wckey", "nice", "comment", "mail_user", "mail_type")
"""Keys that are options of sbatch of the same name."""


def sbatch_options(site: Site, resources: Resources) -> dict[str, str | int]:
    """Options of sbatch by name, for everything that sites spell differently or that only some have."""
    named = {key.replace("_", "-"): getattr(resources, key) for key in _PASSED_ON}
    return {**{key: value for key, value in named.items() if value is not None}, **_gpus(site, resources),
            **_memory(site, resources)}  # fmt: skip


def script_lines(site: Site) -> list[str]:
    """Lines of the script without which srun would not start the tasks as this site's GPUs need it."""
    if site.gpus != "gpus-per-task":
        return []
    # srun would show each task its own GPU only, or none (22.05, with a type); a rank chooses by its local rank
    return ["unset SLURM_GPUS_PER_TASK SLURM_TRES_PER_TASK"]


def _gpus(site: Site, resources: Resources) -> dict[str, str]:
    count = resources.gpus_per_node
    if not count:
        return {}
    if site.gpus == "gpus-per-task":
        count //= resources.tasks
    typed = f"{resources.gpu_type}:{count}" if resources.gpu_type else f"{count}"
    return {site.gpus: f"gpu:{typed}" if site.gpus == "gres" else typed}


def _memory(site: Site, resources: Resources) -> dict[str, str]:
    if resources.memory_gib is None:
        return {}
    shares = {
        "mem": 1,
        "mem-per-gpu": resources.gpus_per_node,
        "mem-per-cpu": resources.tasks * resources.cpus_per_task,
    }
    option = site.memory if shares[site.memory] else "mem"  # without GPUs there is no memory per GPU
    return {option: f"{max(1, math.ceil(resources.memory_gib * 1024 / shares[option]))}MB"}
