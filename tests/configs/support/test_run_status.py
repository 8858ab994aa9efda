"""A run whose process is gone is shown as interrupted, on its own machine at once and on others by its heartbeat."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from quell.configs.support import locks, run_status
from quell.configs.support.locks import Lock
from quell.configs.support.run_status import read_summary


def running(run: Path, host: str) -> Path:
    """Leave what a run leaves that was killed on a machine."""
    (run / "summary.json").write_text(json.dumps({"status": "running", "step": 7}))
    lock = run / ".lock"
    lock.write_text(f"process 1 on {host}, SLURM job 5\n")
    return lock


def test_a_run_that_holds_its_lock_is_running_until_it_is_killed(tmp_path: Path) -> None:
    lock = running(tmp_path, socket.gethostname())
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        file = lock.open()
        locks.try_lock(file)
        os.write(told, b"locked")
        time.sleep(600)
    os.read(ready, 6)
    os.utime(lock, (0, 0))
    assert read_summary(tmp_path)["status"] == "running", "a frozen or very busy process is still there"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert read_summary(tmp_path) == {"status": "interrupted", "step": 7}
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "running", "a reader writes nothing"


@pytest.mark.parametrize(
    ("lock", "age_s", "status"),
    [
        (Lock.ACQUIRED, 1, "running"),  # a file system whose locks end at the machine
        (Lock.UNSUPPORTED, 1, "running"),
        (Lock.HELD_ELSEWHERE, 1, "running"),
        (Lock.ACQUIRED, 1000, "interrupted"),
        (Lock.UNSUPPORTED, 1000, "interrupted"),
        (Lock.HELD_ELSEWHERE, 1000, "interrupted"),  # a file system that keeps the lock of a machine that crashed
    ],
)
def test_on_another_machine_the_heartbeat_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lock: Lock, age_s: float, status: str
) -> None:
    file = running(tmp_path, "another-node")
    os.utime(file, (time.time() - age_s,) * 2)
    monkeypatch.setattr(run_status, "try_lock", lambda *_, **__: lock)
    assert read_summary(tmp_path)["status"] == status


def test_a_run_without_a_lock_file_is_gone(tmp_path: Path) -> None:
    running(tmp_path, "x").unlink()
    assert read_summary(tmp_path)["status"] == "interrupted"


def test_other_states_are_left_alone(tmp_path: Path) -> None:
    assert read_summary(tmp_path) == {}
    for status in ("finished", "failed", "stopped"):
        (tmp_path / "summary.json").write_text(json.dumps({"status": status}))
        assert read_summary(tmp_path) == {"status": status}


def test_the_heart_beats_while_the_block_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_status, "HEARTBEAT_S", 0.01)
    lock = running(tmp_path, "another-node")
    with run_status.heartbeat(tmp_path):
        os.utime(lock, (0, 0))
        deadline = time.monotonic() + 60
        while lock.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert lock.stat().st_mtime > 0
