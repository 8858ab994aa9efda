"""CPU threads of this process: the cores it may use, shared with the ranks that may use the same ones."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Differs between machines, also between those whose containers have the same host name."""


class Cores(NamedTuple):
    """The cores that a process may run on."""

    machine: str
    numbers: frozenset[int]


def set_threads(wanted: int, world: int) -> None:
    """Use as many threads as `wanted`, or with 0 this rank's share of the cores. Collective.

    OMP_NUM_THREADS is left as it is where it is set.
    """
    own = own_cores()
    everyone: list[Cores] = [own] * world
    if world > 1:
        dist.all_gather_object(everyone, own)
    if wanted:
        torch.set_num_threads(wanted)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(share(own, everyone))


def own_cores() -> Cores:
    """The cores that this process may use: its mask, which SLURM sets for each task."""
    if hasattr(os, "sched_getaffinity"):
        numbers = frozenset(os.sched_getaffinity(0))
    else:
        numbers = frozenset(range(os.cpu_count() or 1))
    try:
        return Cores(BOOT_ID.read_text(encoding="ascii").strip(), numbers)
    except OSError:
        return Cores(socket.gethostname(), numbers)


def share(own: Cores, everyone: Sequence[Cores]) -> int:
    """How many threads a process starts: its cores, divided by the ranks (itself included) that share any of them."""
    sharing = sum(other.machine == own.machine and bool(other.numbers & own.numbers) for other in everyone)
    return max(1, len(own.numbers) // max(sharing, 1))
