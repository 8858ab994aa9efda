"""Nodes with networks of their own: each in a network namespace with its own address and name, joined by a bridge.

What ranks on two nodes send each other crosses virtual Ethernet, as between machines. That takes root, `ip` and
`unshare`, and a kernel that allows namespaces and bridges.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.slurm.cluster import Cluster

INTERFACE = "eth0"
"""The name of every node's interface."""


def missing() -> str:
    """What this machine lacks for networks of its own, or ''."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if absent := [name for name in ("ip", "nsenter", "unshare") if shutil.which(name) is None]:
        return f"programs are missing: {', '.join(absent)} (packages iproute2 and util-linux)"
    try:
        with _network(f"qt{os.getpid()}", "10.77.255", []):
            return ""
    except AssertionError as error:
        return f"this kernel does not allow it: {error}"


class IsolatedCluster(Cluster):
    """A cluster whose nodes have networks of their own."""

    def __init__(self, *, nodes: int = 3, **options: int) -> None:
        super().__init__(nodes=nodes, **options)
        self._prefix = f"q{os.getpid()}"
        subnet = f"10.{64 + os.getpid() // 250 % 64}.{os.getpid() % 250}"
        self.controller = f"{subnet}.1"
        self.names = [f"{subnet}.{index + 2}" for index in range(nodes)]
        self._network = _network(self._prefix, subnet, self.names)

    def __enter__(self) -> "IsolatedCluster":
        self._network.__enter__()
        super().__enter__()
        return self

    def close(self) -> None:
        """End everything, and remove the networks."""
        super().close()
        self._network.__exit__(None, None, None)

    def received_bytes(self, node: str) -> int:
        """How much a node has received so far."""
        counter = f"/sys/class/net/{INTERFACE}/statistics/rx_bytes"
        return int(_run("ip", "netns", "exec", self._namespace(node), "cat", counter))

    def _inside(self, node: str) -> list[str]:
        if not node:
            return []
        named = f'hostname {node}; exec "$@"'
        # not `ip netns exec`, which mounts another /sys, without the cgroups that slurmd looks for
        enter = [_program("nsenter"), f"--net=/run/netns/{self._namespace(node)}"]
        return [*enter, _program("unshare"), "--uts", "sh", "-c", named, "node"]

    def _namespace(self, node: str) -> str:
        return f"{self._prefix}-{self.names.index(node)}"


@contextmanager
def _network(prefix: str, subnet: str, addresses: list[str]) -> Iterator[None]:
    """A bridge with the address .1, and a namespace with an interface for each address; gone after the block."""
    bridge = f"{prefix}b"
    try:
        _run("ip", "link", "add", bridge, "type", "bridge")
        _run("ip", "addr", "add", f"{subnet}.1/24", "dev", bridge)
        _run("ip", "link", "set", bridge, "up")
        for index, address in enumerate(addresses):
            namespace, outer = f"{prefix}-{index}", f"{prefix}v{index}"
            _run("ip", "netns", "add", namespace)
            _run("ip", "link", "add", outer, "type", "veth", "peer", "name", INTERFACE, "netns", namespace)
            _run("ip", "link", "set", outer, "master", bridge, "up")
            inside = ("ip", "-n", namespace)
            _run(*inside, "addr", "add", f"{address}/24", "dev", INTERFACE)
            _run(*inside, "link", "set", INTERFACE, "up")
            _run(*inside, "link", "set", "lo", "up")
        yield
    finally:
        for index in range(len(addresses)):
            subprocess.run(["ip", "link", "del", f"{prefix}v{index}"], capture_output=True)
            subprocess.run(["ip", "netns", "del", f"{prefix}-{index}"], capture_output=True)
        subprocess.run(["ip", "link", "del", bridge], capture_output=True)


def _program(name: str) -> str:
    path = shutil.which(name)
    assert path, name
    return path


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout
