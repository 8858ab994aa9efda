"""The training processes of one machine: started with the right environment, watched until the last one exits."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from quell.configs.errors import EXIT_INTERRUPTED, EXIT_REQUEUE
from quell.configs.support.child_process import ChildProcesses, Command, shell_exit_code
from quell.configs.support.stop_signals import STOP_SIGNALS
from quell.slurm.node.records import Failure

PATIENCE_S = 20.0
"""How long processes may outlive one that failed: they wait for it in a collective that never completes."""

_KILLED_BY_STOP_SIGNAL = tuple(-number for number in STOP_SIGNALS)
_POLL_S = 0.05
_TAIL_LINES = 25
_DRAIN_S = 10.0
"""How long to wait for the rest of a dead process's stderr: a grandchild may hold the pipe open for ever."""


@dataclass(frozen=True)
class RankExit:
    """How the process of one rank exited."""

    rank: int
    returncode: int
    """As in subprocess.Popen: the negative number of the signal that killed it."""
    time: float
    """Seconds since 1970."""
    tail: tuple[str, ...]
    """The last lines it wrote to stderr."""

    @property
    def exit_code(self) -> int:
        """The exit code as a shell reports it."""
        return shell_exit_code(self.returncode)

    @property
    def failed(self) -> bool:
        """Whether it neither finished nor stopped with a checkpoint."""
        return self.returncode not in (0, EXIT_REQUEUE, EXIT_INTERRUPTED)

    def was_stopped(self, received: str | None) -> bool:
        """Whether it exited because it was asked to: with a checkpoint, or before it handled stop signals.

        A stop signal before the first step or after the last one kills a process. `received` is the signal that this
        launcher itself received; an exception (exit code 1) is then a consequence of it, and SIGKILL came at the end of
        the time that SLURM gave.
        """
        if self.returncode in (EXIT_REQUEUE, EXIT_INTERRUPTED, *_KILLED_BY_STOP_SIGNAL):
            return True
        return received is not None and self.returncode in (1, -signal.SIGKILL)

    @property
    def description(self) -> str:
        """The exit in words."""
        if self.returncode >= 0:
            return f"exit code {self.returncode}"
        out_of_memory = " (out of memory?)" if self.returncode == -signal.SIGKILL else ""
        return f"killed by {signal.Signals(-self.returncode).name}{out_of_memory}"

    def failure(self, *, job: str, node: str) -> Failure:
        """The record of this exit as a failure."""
        return Failure(job=job, rank=self.rank, node=node, says=self.description, time=self.time, tail=list(self.tail))


class RankProcesses:
    """One process per rank on this machine; a context manager that leaves no process behind."""

    def __init__(self, command: Sequence[str], environments: Mapping[int, Mapping[str, str]], *, cwd: Path) -> None:
        """Prepare to start `command` once for each rank in `environments`, with that rank's environment."""
        self.environments = environments
        self._children = ChildProcesses(
            Command(command, environment, cwd, stderr=subprocess.PIPE) for environment in environments.values()
        )
        self._tails: dict[int, deque[str]] = {}
        self._readers: dict[int, threading.Thread] = {}

    def __enter__(self) -> "RankProcesses":
        self._children.__enter__()
        for rank, process in self._processes().items():
            self._tails[rank] = deque(maxlen=_TAIL_LINES)
            self._readers[rank] = threading.Thread(target=_copy, args=(process.stderr, self._tails[rank]), daemon=True)
            self._readers[rank].start()
        return self

    def __exit__(self, *error: object) -> None:
        self._children.kill()
        for reader in self._readers.values():
            reader.join(timeout=_DRAIN_S)
        self._children.__exit__(*error)

    @property
    def received(self) -> str | None:
        """Name of the stop signal this launcher received; None if there was none."""
        return self._children.received

    def wait(self) -> list[RankExit]:
        """Wait for every process; their exits, in the order in which they happened.

        When one fails, the others get PATIENCE_S to notice and are then killed: they would wait for it for ever.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed twice. The first time the processes are asked to save and stop.
        """
        try:
            return self._wait()
        except KeyboardInterrupt:
            self._children.stop()
            return self._wait()

    def _wait(self) -> list[RankExit]:
        exits: dict[int, RankExit] = {}
        deadline = None
        while len(exits) < len(self._processes()):
            for rank, process in self._processes().items():
                if rank not in exits and (returncode := process.poll()) is not None:
                    exit_time = time.time()
                    self._readers[rank].join(timeout=_DRAIN_S)
                    exits[rank] = RankExit(rank, returncode, exit_time, tuple(self._tails[rank]))
            if deadline is None and any(rank_exit.failed for rank_exit in exits.values()):
                deadline = time.monotonic() + PATIENCE_S
            if deadline is not None and time.monotonic() > deadline:
                self._children.kill()
            time.sleep(_POLL_S)
        return list(exits.values())

    def _processes(self) -> dict[int, "subprocess.Popen[bytes]"]:
        """The processes by rank."""
        return dict(zip(self.environments, self._children.processes, strict=True))


def rank_environment(
    *, rank: int, world_size: int, local_rank: int, local_world_size: int, address: str, port: int
) -> dict[str, str]:
    """The variables with which a process joins its process group; none for a single process."""
    if world_size == 1:
        return {}
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(local_world_size),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
    }


def clean_environment() -> dict[str, str]:
    """This process's environment without the variables that an enclosing launcher may have set."""
    launcher = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return {key: value for key, value in os.environ.items() if key not in launcher}


def _copy(source: IO[bytes] | None, tail: deque[str]) -> None:
    """Copy a process's stderr to ours as it arrives, and keep its last lines."""
    assert source is not None
    with source:
        for line in source:
            sys.stderr.buffer.write(line)
            sys.stderr.flush()
            tail.append(line.decode(errors="replace").rstrip())
