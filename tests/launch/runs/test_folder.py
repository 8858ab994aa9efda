"""Only one run at a time can use a run folder."""

import errno
import os
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import portalocker
import pytest

from quell.configs.errors import MachineError
from quell.launch.runs import folder as run_folder
from quell.launch.runs.folder import RunFolder
from quell.launch.training import run
from tests.support.runs import read_summary
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
        error = single_error(output)
        assert f"another run is training in {folder.path} (process {os.getpid()} on " in error
        assert "--run-dir" in error
        assert read_summary(folder.path) == {"status": "running", "step": 3}
    code, output = train_small()
    assert code == 0, output
    assert folder.summary()["status"] == "finished"


def test_a_full_disk_is_reported_with_the_run_folder(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of a write to an open file does not contain its name."""

    def fail(*_: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run.loop, "train", fail)
    code, output = train_small()
    assert code == 6 and f"error: {tmp_path / 'run'}: No space left on device: free space" in single_error(output)


def test_every_rank_reports_that_the_folder_is_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the other ranks would wait for rank 0 and fail with a lost connection instead of the reason."""

    def receive_from_rank_0(messages: list[str]) -> None:
        messages[0] = "another run is training"

    monkeypatch.setattr(run, "broadcast_object_list", receive_from_rank_0)
    rank_1 = SimpleNamespace(is_main_process=False, num_processes=2)
    with ExitStack() as running, pytest.raises(MachineError, match="another run is training"):
        run.claim(RunFolder(tmp_path), rank_1, running)


def test_a_file_system_without_locks_does_not_prevent_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise portalocker.LockException(OSError(38, "Function not implemented"))

    monkeypatch.setattr(portalocker, "lock", no_locks)
    with RunFolder(tmp_path).locked(), RunFolder(tmp_path).locked():
        pass


@pytest.mark.parametrize(("job", "ignores_lock"), [("77", True), ("7", False), (None, False)])
def test_a_requeued_job_ignores_the_lock_that_it_left_itself(
    job: str | None, ignores_lock: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system may keep the lock of a crashed node; here a living process keeps it."""
    monkeypatch.setattr(run_folder, "PATIENCE_S", 0.0)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    with RunFolder(tmp_path).locked():
        monkeypatch.setenv("SLURM_JOB_ID", job) if job else monkeypatch.delenv("SLURM_JOB_ID")
        second_lock = RunFolder(tmp_path).locked()
        if ignores_lock:
            second_lock.__enter__()
            second_lock.__exit__(None, None, None)
        else:
            with pytest.raises(MachineError, match=r"SLURM job 77\).*delete .*\.lock"):
                second_lock.__enter__()
