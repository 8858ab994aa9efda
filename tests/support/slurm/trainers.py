"""The processes that train under SLURM: they wait at a step, are held while something is done to their job, go on."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.support.slurm.driver import wait_until

HELD_AFTER = 5
"""Steps: enough of them are in the log, and no checkpoint is due yet."""


class Trainers:
    """The training processes on this machine, found by the run folder they write."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._gate = run / "held"

    def wait_after(self, steps: int = HELD_AFTER) -> None:
        """Before the job is handed in: its first start waits after so many steps, however late this test looks."""
        self.run.mkdir(parents=True, exist_ok=True)
        self._gate.write_text(str(steps))

    def go_on(self) -> None:
        """Let them take the next step."""
        self._gate.unlink()

    def ranks(self) -> dict[int, psutil.Process]:
        """The processes by rank."""
        found = {}
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
                if str(self.run) in words and "launch/train.py" in words:
                    found[int(process.environ().get("RANK", "0"))] = process
            except psutil.Error:
                continue
        return found

    def train(self) -> bool:
        """Whether the first steps are done; the run is not, as it waits."""
        log = self.run / "metrics.jsonl"
        return log.exists() and log.read_text().count('"event": "train"') >= 2 and bool(self.ranks())

    @contextmanager
    def held(self, otherwise: Callable[[], str]) -> Iterator[None]:
        """Wait until they train, and hold them: what is done to the job in the block meets them while they train."""
        wait_until(self.train, lambda: f"{self.run.name} was never seen training\n{otherwise()}")
        for process in self.ranks().values():
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        self.go_on()
        try:
            yield
        finally:
            self.thaw()

    def wait_told(self) -> None:
        """Wait until a stop signal waits for the held processes."""
        stop = sum(1 << (number - 1) for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM))
        wait_until(
            lambda: all(_pending(p.pid) & stop or _runs(p) for p in self.ranks().values()), lambda: str(self.run)
        )

    def thaw(self) -> None:
        """Let them go on."""
        for process in self.ranks().values():
            with suppress(psutil.NoSuchProcess):
                process.resume()


def _pending(pid: int) -> int:
    """Signals waiting for a process, as a mask."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return -1
    return sum(int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd")))


def _runs(process: psutil.Process) -> bool:
    """Whether a process that was held goes on (SLURM wakes those it ends)."""
    try:
        return process.status() != psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return True
