"""The processes that train under SLURM: they wait at a step, are held while something is done to their job, resume."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from quell.configs.support.stop_signals import STOP_SIGNALS
from tests.support.slurm.launcher import wait_until

HELD_AFTER = 5
"""Steps: enough of them are in the log, and no checkpoint is due yet."""


TRAIN = {"launch/train.py", "quell.launch.train"}
"""How a job starts training: as a script of the checkout, or as a module of the snapshot."""


class Trainers:
    """The training processes on this machine that write to a run folder."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._gate = run / "held"

    def close_gate(self, after_steps: int = HELD_AFTER) -> None:
        """Make the run wait after so many steps; call it before the job is submitted, so that none is missed."""
        self.run.mkdir(parents=True, exist_ok=True)
        self._gate.write_text(str(after_steps))

    def open_gate(self) -> None:
        """Let the run take the next step."""
        self._gate.unlink()

    def ranks(self) -> dict[int, psutil.Process]:
        """The processes by rank."""
        processes = {}
        for process in psutil.process_iter():
            try:
                arguments = process.cmdline()
                if str(self.run) in arguments and not TRAIN.isdisjoint(arguments):
                    processes[int(process.environ().get("RANK", "0"))] = process
            except psutil.Error:
                continue
        return processes

    def are_training(self) -> bool:
        """Whether the first steps are done; the run is not, because it waits at the gate."""
        log = self.run / "metrics.jsonl"
        return log.exists() and log.read_text().count('"event": "train"') >= 2 and bool(self.ranks())

    @contextmanager
    def held(self, describe_job: Callable[[], str]) -> Iterator[None]:
        """Wait until they train, and suspend them: what is done to the job in the block happens during training."""
        wait_until(self.are_training, lambda: f"{self.run.name} was never seen training\n{describe_job()}")
        for process in self.ranks().values():
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        self.open_gate()
        try:
            yield
        finally:
            self.resume()

    def wait_for_signal(self) -> None:
        """Wait until a stop signal is pending for the suspended processes."""
        stop = sum(1 << (number - 1) for number in STOP_SIGNALS)
        wait_until(
            lambda: all(_pending_signals(p.pid) & stop or _is_running(p) for p in self.ranks().values()),
            lambda: str(self.run),
        )

    def resume(self) -> None:
        """Let the suspended processes go on."""
        for process in self.ranks().values():
            with suppress(psutil.NoSuchProcess):
                process.resume()


def _pending_signals(pid: int) -> int:
    """The signals pending for a process, as a mask."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return -1
    return sum(int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd")))


def _is_running(process: psutil.Process) -> bool:
    """Whether a process is no longer suspended (SLURM wakes those it ends)."""
    try:
        return process.status() != psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return True
