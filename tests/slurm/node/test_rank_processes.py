"""The rank processes of one machine: none survives the failure of another, none is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from quell.configs.support import child_process
from quell.slurm.node import rank_processes
from quell.slurm.node.rank_processes import RankProcesses, rank_environment


def ranks(code: str, *, world_size: int = 2, folder: Path) -> RankProcesses:
    """Processes that run some Python code with their rank's environment."""
    common = {"PATH": os.environ["PATH"], "FOLDER": str(folder)}
    environments = {
        rank: common
        | rank_environment(
            rank=rank, world_size=world_size, local_rank=rank, local_world_size=world_size, address="127.0.0.1", port=1
        )
        for rank in range(world_size)
    }
    return RankProcesses([sys.executable, "-c", "import os, sys, time\n" + code], environments, cwd=folder)


def test_processes_that_wait_for_a_failed_one_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rank_processes, "PATIENCE_S", 0.2)
    code = "if os.environ['RANK'] == '1':\n  print('error: bad data', file=sys.stderr); sys.exit(4)\ntime.sleep(300)"
    with ranks(code, folder=tmp_path) as processes:
        exits = processes.wait()
    assert [(rank_exit.rank, rank_exit.returncode, rank_exit.failed) for rank_exit in exits] == [
        (1, 4, True),
        (0, -9, True),
    ]
    assert exits[0].tail == ("error: bad data",)
    assert exits[1].description.startswith("killed by SIGKILL")
    assert "error: bad data" in capfd.readouterr().err, "what a process prints is passed on"


def test_every_rank_gets_the_variables_of_its_process_group(tmp_path: Path) -> None:
    names = "RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT"
    values = f"' '.join(os.environ[name] for name in '{names}'.split())"
    code = f"open(os.environ['FOLDER'] + '/' + os.environ['RANK'], 'w').write({values})"
    with ranks(code, folder=tmp_path) as processes:
        assert [rank_exit.returncode for rank_exit in processes.wait()] == [0, 0]
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["0 2 0 2 127.0.0.1 1", "1 2 1 2 127.0.0.1 1"]


def test_a_single_process_has_no_process_group() -> None:
    assert rank_environment(rank=0, world_size=1, local_rank=0, local_world_size=1, address="a", port=1) == {}


def test_no_process_is_left_when_the_launcher_is_interrupted(tmp_path: Path) -> None:
    code = "open(os.environ['FOLDER'] + '/pid' + os.environ['RANK'], 'w').write(str(os.getpid()))\ntime.sleep(300)"

    def pid(rank: int) -> int:
        file = tmp_path / f"pid{rank}"
        return int(file.read_text() or 0) if file.exists() else 0

    with pytest.raises(KeyboardInterrupt), ranks(code, folder=tmp_path):
        while not (pid(0) and pid(1)):
            time.sleep(0.02)
        raise KeyboardInterrupt
    assert not any(psutil.pid_exists(pid(rank)) for rank in range(2))


def test_ctrl_c_asks_the_processes_to_save_and_waits_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import signal\nsignal.signal(signal.SIGTERM, lambda *_: os._exit(75))\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "open(os.environ['FOLDER'] + '/ready' + os.environ['RANK'], 'w')\ntime.sleep(300)"
    )
    sleep = time.sleep
    pressed: list[bool] = []

    def press(seconds: float) -> None:
        if not pressed and all((tmp_path / f"ready{rank}").exists() for rank in range(2)):
            pressed.append(True)
            raise KeyboardInterrupt
        sleep(seconds)

    with ranks(code, folder=tmp_path) as processes:
        monkeypatch.setattr(rank_processes.time, "sleep", press)
        exits = processes.wait()
    assert [rank_exit.returncode for rank_exit in exits] == [75, 75] and processes.received == "SIGINT"
    assert all(rank_exit.was_stopped(processes.received) and not rank_exit.failed for rank_exit in exits)


def test_a_signal_that_arrives_while_processes_are_started_reaches_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = subprocess.Popen

    def popen_and_signal(*arguments: Any, **options: Any) -> Any:
        process = popen(*arguments, **options)
        os.kill(os.getpid(), signal.SIGUSR1)
        return process

    monkeypatch.setattr(child_process.subprocess, "Popen", popen_and_signal)
    with ranks("time.sleep(300)", folder=tmp_path) as processes:
        assert [rank_exit.returncode for rank_exit in processes.wait()] == [-signal.SIGUSR1] * 2
        assert processes.received == "SIGUSR1"
