"""Signs in the output of a failed process that its node is to blame, and not the program or its settings."""

import re
from collections.abc import Iterable

_PROGRAM = (
    "device-side assert", "out of memory", "an illegal", "misaligned", "invalid", "no kernel image", "peer access",
    "operation not", "too many resources", "the launch timed out",
)  # fmt: skip
"""Errors of CUDA that the same program meets on every node."""

_FAULTS = (
    rf"CUDA error: (?!{'|'.join(_PROGRAM)}).+",
    r"uncorrectable (NVLink|ECC) error.*",
    r"CUDA driver initialization failed.*",
    r"CUDA unknown error.*",
    r"No CUDA GPUs are available.*",
    r"Failed to initialize NVML.*",
    r"Unable to determine the device handle.*",
    r"GPU (is lost|has fallen off the bus).*",
    r"this stage asks for GPUs, but .*",
    r"\w+:\d+ cannot be used .*",
    r"Stale file handle.*",
    r"Transport endpoint is not connected.*",
    r"Input/output error.*",
    r"Remote I/O error.*",
)
"""What torch, the driver, the operating system and launch/machine/devices.py say about a node."""

_NO_FAULT = re.compile(r"without CUDA support")
"""A program that cannot use GPUs on any node."""

_PATTERN = re.compile("|".join(_FAULTS), re.IGNORECASE)
_LONGEST = 120


def node_fault(tail: Iterable[str]) -> str:
    """What points to the node in the last lines of a process's stderr; empty if nothing does."""
    for line in tail:
        if (found := _PATTERN.search(line)) and not _NO_FAULT.search(line):
            return found[0][:_LONGEST].strip()
    return ""
