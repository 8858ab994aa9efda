"""A command that runs inside another: signals are passed on, its exit code comes back, nobody is left behind."""

import signal
import subprocess
from types import FrameType

PASSED_ON = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Signals on which a training run saves a checkpoint and ends with exit code 75."""


class Child:
    """A command to be run."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        """Signals that came before there was a process to tell."""

    def run(self) -> int:
        """Start it; the exit code once it has ended, 128 + n when signal n ended it.

        Signals that come meanwhile go to the command; Ctrl-C reaches it by itself, being of the same terminal.
        """
        before = {number: signal.signal(number, self._pass_on) for number in PASSED_ON}
        try:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
            for number in self._early:
                self._process.send_signal(number)
            code = self._process.wait()
        except KeyboardInterrupt:
            if self._process is not None:
                self._process.wait()
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return 128 - code if code < 0 else code

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        if self._process is None:
            self._early.append(number)
        else:
            self._process.send_signal(number)
