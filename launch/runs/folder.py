"""The folder of a run: names of its files, its lock, and the checks before anything is written."""

import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.errors import CheckpointError, MachineError
from configs.loader import dump, load
from configs.schema import RunConfig
from configs.support.atomic_files import write_atomically
from configs.support.json_files import Record, read_json
from configs.support.locks import Lock, try_lock

LOCK_FILE = ".lock"

PATIENCE_S = 5.0
"""How long a start waits for a previous run in the same folder, which may be about to exit."""


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
        """Create the folder and prove that it is writable; MachineError otherwise."""
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise MachineError(
                f"cannot write the run folder {self.path} ({error.strerror}): choose another with --run-dir"
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Inside the block no other process trains in this folder: two runs would mix their checkpoints.

        The lock ends with the process, however it ends. After a node crash, a network file system may keep the dead
        process's lock; a requeued SLURM job therefore ignores a lock that its own job left.

        Raises:
            MachineError: Another run holds the lock.
        """
        with (self.path / LOCK_FILE).open("a+", encoding="utf-8") as file:
            if try_lock(file, patience_s=PATIENCE_S) is Lock.HELD_ELSEWHERE:
                file.seek(0)
                self._refuse_unless_own(file.read())
            else:  # acquired; or the file system has no locks, and then nobody can be refused
                file.truncate(0)
                print(_this_process(), file=file, flush=True)
            yield

    def config(self) -> RunConfig:
        """The complete configuration of the run in this folder; CheckpointError where there is none."""
        if not self.config_file.is_file():
            raise CheckpointError(
                f"{self.path} is not a run folder: it has no config.yaml; give a folder that train.py has written"
            )
        return load(self.config_file)

    def write_config(self, config: RunConfig) -> None:
        """Write the complete configuration."""
        write_atomically(self.config_file, dump(config))

    def summary(self) -> Record:
        """The run's summary.json; empty before there is one."""
        return read_json(self.summary_file)

    def write_summary(self, **values: object) -> None:
        """Update summary.json: status, step, steps, exit_code, metrics, warnings; other keys are kept."""
        write_atomically(self.summary_file, json.dumps({**self.summary(), **values}, indent=1) + "\n")

    def _refuse_unless_own(self, holder: str) -> None:
        """MachineError unless the lock was left by an earlier start of this SLURM job."""
        holder, job = holder.strip() or "unknown", os.environ.get("SLURM_JOB_ID")
        if not (job and holder.endswith(_job_suffix(job))):
            raise MachineError(
                f"another run is training in {self.path} ({holder}): wait until it ends, choose another folder with "
                f"--run-dir, or, if that process is certainly gone, delete {self.path / LOCK_FILE}"
            )


def _this_process() -> str:
    """Where a person finds the process that holds a lock."""
    job = os.environ.get("SLURM_JOB_ID")
    return f"process {os.getpid()} on {socket.gethostname()}" + (_job_suffix(job) if job else "")


def _job_suffix(job: str) -> str:
    return f", SLURM job {job}"
