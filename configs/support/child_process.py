"""Child processes that receive the stop signals sent to this process, so that they can save before they exit."""

import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from quell.configs.support import stop_signals

_IS_WINDOWS = os.name == "nt"


@dataclass(frozen=True)
class Command:
    """A command and the options of `subprocess.Popen` it is started with."""

    arguments: Sequence[str]
    environment: Mapping[str, str] | None = None
    cwd: Path | None = None
    stdin: int | None = None
    stderr: int | None = None

    def start(self) -> "subprocess.Popen[bytes]":
        """Start a process."""
        return subprocess.Popen(
            self.arguments, env=self.environment, cwd=self.cwd, stdin=self.stdin, stderr=self.stderr
        )


class ChildProcesses:
    """Processes that are started together and receive every stop signal sent to this one; a context manager.

    Entering starts them, leaving restores the previous signal handlers. Leaving does not end them: call `wait` on
    them, or `kill`. Where one cannot be started, those started before it are killed.
    """

    def __init__(self, commands: Iterable[Command]) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self.received: str | None = None
        """Name of the last stop signal this process received; None if there was none."""
        self._commands = list(commands)
        self._early: list[int] | None = []
        """Signals that arrived before all processes existed; None once they all do."""
        self._handlers = ExitStack()

    def __enter__(self) -> "ChildProcesses":
        self._handlers.enter_context(stop_signals.handling(self._on_signal))
        try:
            for command in self._commands:
                self.processes.append(command.start())
        except BaseException:
            self.kill()
            self._handlers.close()
            raise
        early, self._early = self._early, None
        for number in early or ():
            self._send(number)
        return self

    def __exit__(self, *_: object) -> None:
        self._handlers.close()

    def stop(self) -> None:
        """Ask the processes to save and stop, after Ctrl-C: a terminal sends it to them too, other programs do not."""
        self.received = signal.SIGINT.name
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the processes that still run, and reap all of them."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self.received = signal.Signals(number).name
        if self._early is None:
            self._send(number)
        else:
            self._early.append(number)

    def _send(self, number: int) -> None:
        if _IS_WINDOWS:
            return  # its console tells all of its processes; a signal from here would end them at once
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Run a command to its end and forward stop signals to it.

    Ctrl-C reaches the command without our help, as both belong to the same terminal; it is waited for even then.

    Returns:
        Its exit code as a shell reports it.
    """
    with ChildProcesses([Command(command, environment, stdin=subprocess.DEVNULL)]) as children:
        (process,) = children.processes
        try:
            return shell_exit_code(process.wait())
        except KeyboardInterrupt:
            process.wait()
            raise


def shell_exit_code(returncode: int) -> int:
    """The exit code a shell reports for a `Popen.returncode`: 128 + n for a process killed by signal n."""
    return returncode if returncode >= 0 else 128 - returncode
