"""Ports for the servers that tests start."""

import os
import random
import socket
from pathlib import Path

KERNEL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
FIRST = 30_000
"""Above the ports at which SLURM jobs meet (slurm/node/placement.py)."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below the range from which the kernel assigns ports.

    A server takes seconds to start, and by then the kernel could have assigned a port of its range to another program.
    For the same reason every test worker uses ports of its own.
    """
    last = int(KERNEL_RANGE.read_text(encoding="utf-8").split()[0]) if KERNEL_RANGE.exists() else 0
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    own = range(FIRST + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % workers, last, workers)
    candidates = random.SystemRandom().sample(own, len(own)) if last - FIRST > 1000 else [0] * count
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < count:
            candidate = socket.socket()
            sockets.append(candidate)
            try:
                candidate.bind(("127.0.0.1", candidates.pop()))
            except OSError:
                sockets.pop().close()
        return [bound.getsockname()[1] for bound in sockets]
    finally:
        for bound in sockets:
            bound.close()
