"""The folder a run leaves behind: names of its files, and the checks before anything is written."""

from configs.support.atomic_files import write_atomically
import fcntl
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from configs.errors import CheckpointError, MachineError
from configs.loader import dump, load
from configs.schema import RunConfig

LOCK = ".lock"

PATIENCE_S = 5.0
"""How long a start waits for the run before it, which may be on its way out."""


class RunFolder:
    """`config.yaml`, `metrics.jsonl`, `summary.json`, `tensorboard/` and `checkpoints/` of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.metrics_file = self.path / "metrics.jsonl"
        self.summary_file = self.path / "summary.json"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"

    def create(self) -> None:
        """Make the folder and prove that it can be written; MachineError otherwise."""
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise MachineError(
                f"cannot write the run folder {self.path} ({error.strerror}): choose another with --run-dir"
            ) from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else trains in this folder inside the block: two runs would mix their checkpoints.

        The lock ends with the process, however that ends. Where a node crashed, a network disk may keep it for the
        dead: a SLURM job that comes again passes by its own. MachineError where another run holds it.
        """
        with (self.path / LOCK).open("a+", encoding="utf-8") as file:
            if _taken(file.fileno()):
                file.truncate(0)
                print(_this_process(), file=file, flush=True)
            else:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                job = os.environ.get("SLURM_JOB_ID")
                if not (job and holder.endswith(_of_job(job))):
                    raise MachineError(
                        f"another run is training in {self.path} ({holder}): wait for its end, choose another folder "
                        f"with --run-dir, or delete {self.path / LOCK} where that process is gone for certain"
                    )
            yield

    def config(self) -> RunConfig:
        """The complete configuration of the run that lives here."""
        if not self.config_file.is_file():
            raise CheckpointError(f"{self.path} is no run folder: it has no config.yaml; give one that train.py made")
        return load(self.config_file)

    def write_config(self, config: RunConfig) -> None:
        """Keep the complete configuration."""
        write_atomically(self.config_file, dump(config))

    def summary(self) -> dict[str, Any]:
        """What the last process said about the run; empty before it said anything."""
        try:
            return json.loads(self.summary_file.read_text())
        except (OSError, json.JSONDecodeError):
            return {}

    def write_summary(self, **values: Any) -> None:
        """Say how the run stands: status, step, steps, exit_code, metrics, warnings; other keys are kept."""
        write_atomically(self.summary_file, json.dumps({**self.summary(), **values}, indent=1) + "\n")




def _this_process() -> str:
    """Where a person finds the process that holds a lock."""
    job = os.environ.get("SLURM_JOB_ID")
    return f"process {os.getpid()} on {socket.gethostname()}" + (_of_job(job) if job else "")


def _of_job(job: str) -> str:
    return f", SLURM job {job}"


def _taken(descriptor: int) -> bool:
    """Take the lock of a file; on a disk that has no locks everybody gets it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        except OSError:
            return True
        else:
            return True


