"""Processes that train: started with the right environment, told every signal, watched until the last one ends."""

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
from types import FrameType
from typing import IO, Any

from configs.errors import EXIT_REQUEUE

STOP_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)
"""Signals that ask a run to save and stop."""

PATIENCE_S = 20.0
"""How long processes may outlive one that failed: its peers wait for it in vain."""

_KILLED_BY_STOP = tuple(-number for number in STOP_SIGNALS)
_POLL_S = 0.05
_TAIL_LINES = 25
_READ_S = 10.0
"""How long the rest of a dead process's words may take; one it left behind may hold the pipe open for ever."""


@dataclass(frozen=True)
class Ended:
    """How one process ended."""

    rank: int
    code: int
    """Exit code; negative is the signal that killed it."""
    time: float
    """Seconds since 1970."""
    tail: tuple[str, ...]
    """The last lines it wrote to stderr."""

    @property
    def failed(self) -> bool:
        """Whether it ended otherwise than finished or stopped with a checkpoint."""
        return self.code not in (0, EXIT_REQUEUE)

    def stopped(self, told: str | None) -> bool:
        """Whether it ended because it was asked to: with a checkpoint, or while it did not listen.

        A stop signal before the first step or after the last one kills a process; `told` is the signal this process was
        itself sent, and makes an exception a consequence of it.
        """
        return self.code in (EXIT_REQUEUE, *_KILLED_BY_STOP) or (told is not None and self.code == 1)

    @property
    def says(self) -> str:
        """The exit in words."""
        if self.code >= 0:
            return f"exit code {self.code}"
        return f"killed by {signal.Signals(-self.code).name}" + (" (out of memory?)" if self.code == -9 else "")


class Children:
    """One or more ranks on this machine; a context manager that leaves no process behind."""

    def __init__(self, command: Sequence[str], environments: Mapping[int, Mapping[str, str]], *, cwd: Path) -> None:
        """Start `command` once for each rank, with that rank's environment."""
        self.told: str | None = None
        """Name of the stop signal this process received, None when there was none."""
        self._early: list[int] | None = []
        """Signals that came before all processes were there to be told; None from then on."""
        self._before: dict[int, Any] = {}
        self._tails: dict[int, deque[str]] = {}
        self._readers: list[threading.Thread] = []
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._start = (list(command), dict(environments), cwd)

    def __enter__(self) -> "Children":
        for number in STOP_SIGNALS:
            self._before[number] = signal.signal(number, self._forward)
        command, environments, cwd = self._start
        for rank, environment in environments.items():
            process = subprocess.Popen(command, env=dict(environment), cwd=cwd, stderr=subprocess.PIPE)
            self._processes[rank] = process
            self._tails[rank] = deque(maxlen=_TAIL_LINES)
            reader = threading.Thread(target=_copy, args=(process.stderr, self._tails[rank]), daemon=True)
            reader.start()
            self._readers.append(reader)
        early, self._early = self._early, None
        for missed in early or ():
            self._tell(missed)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()
        for reader in self._readers:
            reader.join(timeout=_READ_S)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def wait(self) -> list[Ended]:
        """Every process's end, in the order in which they ended.

        When one fails the others get PATIENCE_S to notice, then they are killed: they would wait for it for ever.
        """
        ended: dict[int, Ended] = {}
        deadline = None
        while len(ended) < len(self._processes):
            for rank, process in self._processes.items():
                if rank not in ended and (code := process.poll()) is not None:
                    at = time.time()
                    self._readers[list(self._processes).index(rank)].join(timeout=_READ_S)
                    ended[rank] = Ended(rank, code, at, tuple(self._tails[rank]))
            if deadline is None and any(end.failed for end in ended.values()):
                deadline = time.monotonic() + PATIENCE_S
            if deadline is not None and time.monotonic() > deadline:
                for process in self._processes.values():
                    if process.poll() is None:
                        process.kill()
            time.sleep(_POLL_S)
        return list(ended.values())

    def _forward(self, number: int, _: FrameType | None) -> None:
        self.told = signal.Signals(number).name
        if self._early is None:
            self._tell(number)
        else:
            self._early.append(number)

    def _tell(self, number: int) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(number)


def rank_environment(
    *, rank: int, world: int, local_rank: int, local_world: int, address: str, port: int
) -> dict[str, str]:
    """The variables by which a process finds its world; none when it is alone."""
    if world == 1:
        return {}
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(local_world),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
    }


def clean_environment() -> dict[str, str]:
    """This process's environment without the variables of a launcher around it."""
    launcher = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return {key: value for key, value in os.environ.items() if key not in launcher}


def _copy(source: IO[bytes] | None, tail: deque[str]) -> None:
    """Pass a process's stderr on as it comes and remember its end."""
    assert source is not None
    with source:
        for line in source:
            sys.stderr.buffer.write(line)
            sys.stderr.flush()
            tail.append(line.decode(errors="replace").rstrip())
