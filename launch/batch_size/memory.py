"""Memory that one process of a run may use on this machine."""

from pathlib import Path

import psutil
import torch

from quell.configs.errors import MachineError
from quell.launch.machine import devices

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
"""Where Linux says to which control groups a process belongs, as in `0::/path` or, version 1, `4:memory:/path`."""

_FILES = {
    "": ("memory.max", "memory.current"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes"),
}
"""Controllers of a line of OWN_GROUPS -> files with the limit and with what is used."""


def of_one_process(device: torch.device, processes: int) -> int:
    """Bytes that each process of a run may use: a GPU each, or on CPU a share of what is available.

    Args:
        device: What the processes compute on.
        processes: Of the run; on CPU all are taken to share this machine.

    Raises:
        MachineError: The device does not say how much memory it has.
    """
    if device.type == "cpu":
        return available_bytes() // processes
    total = devices.total_bytes(device)
    if total is None:
        raise MachineError(f"{devices.describe(device)} does not say how much memory it has: give it with --memory-gb")
    return total


def available_bytes() -> int:
    """Memory that is free on this machine, or less where the container or the job of this process may take less."""
    return min([int(psutil.virtual_memory().available), *_left_in_groups()])


def _left_in_groups() -> list[int]:
    """What the control groups of this process still allow, from its own to the one that holds all others."""
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:  # not on Linux
        return []
    found: list[int] = []
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers not in _FILES:
            continue
        root = GROUPS / controllers
        folder = root / place.lstrip("/")
        for group in (folder, *folder.parents):
            if not group.is_relative_to(root):
                break
            found += _left(group, *_FILES[controllers])
    return found


def _left(group: Path, limit_file: str, used_file: str) -> list[int]:
    """What one group still allows; nothing where it has no limit, or is not visible from inside a container."""
    try:
        limit, used = ((group / name).read_text(encoding="utf-8").strip() for name in (limit_file, used_file))
        lines = (group / "memory.stat").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    if limit == "max":
        return []
    statistics = dict(line.split() for line in lines)
    # files that were read and can be dropped at once count as used, and would make a limit seem reached
    cached = int(statistics.get("total_inactive_file", statistics.get("inactive_file", 0)))
    return [max(int(limit) - max(int(used) - cached, 0), 0)]
