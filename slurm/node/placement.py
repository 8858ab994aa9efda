"""Which rank of which job a process is, from the variables that SLURM sets."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from quell.configs.errors import MachineError
from quell.slurm.node.rank_processes import rank_environment

_FIRST_PORT, _PORTS = 10_000, 20_000
"""Rendezvous ports, below the range from which the kernel assigns ports to outgoing connections."""


@dataclass(frozen=True)
class RankPlacement:
    """Which rank of which job this process is, and on which node."""

    job: str
    rank: int
    node: str
    environment: Mapping[str, str]
    """The variables with which the rank joins the process group."""


def of_this_process() -> RankPlacement:
    """This task's placement from SLURM's variables; MachineError when the first node's name cannot be resolved."""
    from submitit.helpers import TorchDistributedEnvironment

    number = os.environ["SLURM_JOB_ID"]
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else number
    os.environ["MASTER_PORT"] = str(_FIRST_PORT + int(number) % _PORTS)
    group = TorchDistributedEnvironment()
    if group.world_size > 1:
        try:
            socket.getaddrinfo(group.master_addr, group.master_port)
        except OSError as error:
            raise MachineError(
                f"cannot resolve the first node's name '{group.master_addr}' on {socket.gethostname()} "
                f"({error.strerror}): the ranks cannot connect; add the name to DNS or /etc/hosts"
            ) from error
    environment = rank_environment(
        rank=group.rank, world_size=group.world_size, local_rank=group.local_rank,
        local_world_size=group.local_world_size, address=group.master_addr, port=group.master_port,
    )  # fmt: skip
    node = os.environ.get("SLURMD_NODENAME", socket.gethostname())
    return RankPlacement(job, group.rank, node, environment)
