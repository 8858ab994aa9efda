"""The folder of a run: names of its files, its lock, and the checks before anything is written."""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from quell.configs import registry
from quell.configs.errors import CheckpointError, MachineError
from quell.configs.loader import dump, load
from quell.configs.schema import RunConfig
from quell.configs.support import run_status
from quell.configs.support.atomic_files import write_atomically
from quell.configs.support.json_files import Record, read_json
from quell.configs.support.locks import Lock, read_beside_lock, try_lock
from quell.configs.support.run_status import LOCK_FILE, SUMMARY_FILE
from quell.launch.checkpoints.layout import is_shared

_TEMPORARY = re.compile(r"\..+\.\d+\.[0-9a-f]{8}")
"""Files of `atomic_files.temporary_beside` that a killed process left."""

PATIENCE_S = 5.0
"""How long a start waits for a previous run in the same folder, which may be about to exit."""


class RunFolder:
    """`config.yaml`, `metrics.jsonl`, `summary.json`, `tensorboard/` and `checkpoints/` of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.metrics_file = self.path / "metrics.jsonl"
        self.summary_file = self.path / SUMMARY_FILE
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.noise = self.path / "noise.npz"
        """The noise of the training images (losses/noise/model.py), where the method examined it."""

    def create(self) -> None:
        """Create the folder and prove that it is writable; MachineError otherwise."""
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            for folder in (self.path, self.checkpoints):
                with tempfile.TemporaryFile(dir=folder):
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
            MachineError: Another run holds the lock, or the lock file cannot be written.
        """
        try:
            file = (self.path / LOCK_FILE).open("a+", encoding="utf-8", errors="replace")
        except OSError as error:
            raise MachineError(
                f"cannot write {self.path / LOCK_FILE} ({error.strerror}): make it writable, or choose another folder "
                "with --run-dir"
            ) from error
        with file:
            if try_lock(file, patience_s=PATIENCE_S) is Lock.HELD_ELSEWHERE:
                file.seek(0)
                self._refuse_unless_own(read_beside_lock(file, 1000))
            else:  # acquired; or the file system has no locks, and then nobody can be refused
                file.truncate(0)
                print(_this_process(), file=file, flush=True)
            self._remove_temporary_files()
            with run_status.heartbeat(self.path):
                yield

    def config(self, *, trust_code: bool = False) -> RunConfig:
        """The complete configuration of the run in this folder; CheckpointError where there is none.

        That of a shared model imports no code from outside of Quell, whichever command reads it, unless trusted.
        """
        if not self.config_file.is_file():
            raise CheckpointError(
                f"{self.path} is not a run folder: it has no config.yaml; give a folder that train.py has written"
            )
        with registry.only_own_code() if is_shared(self.path) and not trust_code else nullcontext():
            return load(self.config_file)

    def write_config(self, config: RunConfig) -> None:
        """Write the complete configuration."""
        write_atomically(self.config_file, dump(config))

    def summary(self) -> Record:
        """The run's summary.json, `interrupted` where the process is gone; empty before there is one."""
        return run_status.read_summary(self.path)

    def write_summary(self, **values: object) -> None:
        """Update summary.json: status, step, steps, exit_code, metrics, warnings; other keys are kept."""
        write_atomically(self.summary_file, json.dumps({**read_json(self.summary_file), **values}, indent=1) + "\n")

    def _remove_temporary_files(self) -> None:
        """Remove what a kill between writing and renaming a small file left."""
        for folder in (self.path, self.checkpoints, self.path / "capsule"):
            for file in folder.glob(".*"):
                if _TEMPORARY.fullmatch(file.name):
                    file.unlink(missing_ok=True)

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
    return run_status.this_process() + (_job_suffix(job) if job else "")


def _job_suffix(job: str) -> str:
    return f", SLURM job {job}"
