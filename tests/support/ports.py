"""Ports for the servers that tests start."""

import os
import random
import socket
from pathlib import Path

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
FIRST = 30_000
"""Above the ports that SLURM's jobs meet at (slurm/node/job.py)."""


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, below those the kernel hands out to everybody.

    A server takes seconds to start; a port of the kernel's own range may be another program's by then. Each of several
    test workers has ports of its own, for the same reason.
    """
    last = int(RANGE.read_text().split()[0]) if RANGE.exists() else 0
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    own = range(FIRST + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % workers, last, workers)
    wanted = random.SystemRandom().sample(own, len(own)) if last - FIRST > 1000 else [0] * count
    held: list[socket.socket] = []
    try:
        while len(held) < count:
            one = socket.socket()
            held.append(one)
            try:
                one.bind(("127.0.0.1", wanted.pop()))
            except OSError:
                held.pop().close()
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()
