"""One folder belongs to one run at a time."""

import errno
import fcntl
import json
import os
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from configs.errors import MachineError
from launch.runs import folder as run_folder
from launch.runs.folder import RunFolder
from launch.training import run
from tests.support.small_runs import TrainSmall, single_error


def test_a_second_run_in_the_same_folder_is_refused_and_changes_nothing(
    train_small: TrainSmall,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_folder, "PATIENCE_S", 0.0)
    folder = RunFolder(tmp_path / "run")
    folder.create()
    with folder.locked():
        folder.write_summary(status="running", step=3)
        code, output = train_small()
        assert code == 6
        sentence = single_error(output)
        assert f"another run is training in {folder.path} (process {os.getpid()} on " in sentence
        assert "--run-dir" in sentence
        assert json.loads(folder.summary_file.read_text()) == {"status": "running", "step": 3}
    code, output = train_small()
    assert code == 0, output
    assert folder.summary()["status"] == "finished"


def test_a_full_disk_is_said_with_the_folder(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing to a file that is open already raises without its name."""

    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run.loop, "train", full)
    code, output = train_small()
    assert code == 6 and f"error: {tmp_path / 'run'}: No space left on device: free space" in single_error(output)


def test_every_rank_hears_that_the_folder_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others would wait for rank 0, and end with a lost connection instead of the reason."""

    def from_rank_0(told: list[str]) -> None:
        told[0] = "another run is training"

    monkeypatch.setattr(run, "broadcast_object_list", from_rank_0)
    rank_1 = SimpleNamespace(is_main_process=False, num_processes=2)
    with ExitStack() as running, pytest.raises(MachineError, match="another run is training"):
        run.claim(RunFolder(tmp_path), rank_1, running)  # type: ignore[arg-type]


def test_a_disk_without_locks_refuses_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with RunFolder(tmp_path).locked(), RunFolder(tmp_path).locked():
        pass


@pytest.mark.parametrize(("job", "passes"), [("77", True), ("7", False), (None, False)])
def test_a_job_that_comes_again_passes_by_the_lock_of_its_dead_self(
    job: str | None, passes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that keeps the lock of a crashed node: here of a living process."""
    monkeypatch.setattr(run_folder, "PATIENCE_S", 0.0)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    with RunFolder(tmp_path).locked():
        monkeypatch.setenv("SLURM_JOB_ID", job) if job else monkeypatch.delenv("SLURM_JOB_ID")
        again = RunFolder(tmp_path).locked()
        if passes:
            again.__enter__()
            again.__exit__(None, None, None)
        else:
            with pytest.raises(MachineError, match=r"SLURM job 77\).*delete .*\.lock"):
                again.__enter__()
