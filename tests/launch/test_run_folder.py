"""One folder belongs to one run at a time."""

import json
import os
from pathlib import Path

import pytest

from launch import run_folder
from launch.run_folder import RunFolder
from tests.launch.conftest import one_sentence


def test_a_second_run_in_the_same_folder_is_refused_and_changes_nothing(
    go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_folder, "PATIENCE_S", 0.0)
    folder = RunFolder(tmp_path / "run")
    folder.create()
    with folder.alone():
        folder.write_summary(status="running", step=3)
        code, said = go()
        assert code == 6
        sentence = one_sentence(said)
        assert f"another run is training in {folder.path} (process {os.getpid()} on " in sentence
        assert "--run-dir" in sentence
        assert json.loads(folder.summary_file.read_text()) == {"status": "running", "step": 3}
    code, said = go()
    assert code == 0, said
    assert folder.summary()["status"] == "finished"


def test_a_disk_without_locks_refuses_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(run_folder.fcntl, "flock", no_locks)
    with RunFolder(tmp_path).alone(), RunFolder(tmp_path).alone():
        pass
