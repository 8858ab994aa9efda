"""Processes of one machine: none outlives a failure of another, none is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from slurm.node import processes
from slurm.node.processes import Children, rank_environment


def start(code: str, *, world: int = 2, folder: Path) -> Children:
    """`world` processes that run a line of Python knowing their RANK."""
    own = {"PATH": os.environ["PATH"], "FOLDER": str(folder)}
    environments = {
        rank: own
        | rank_environment(rank=rank, world=world, local_rank=rank, local_world=world, address="127.0.0.1", port=1)
        for rank in range(world)
    }
    return Children([sys.executable, "-c", "import os, sys, time\n" + code], environments, cwd=folder)


def test_the_processes_left_waiting_by_a_failed_one_are_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "PATIENCE_S", 0.2)
    code = "if os.environ['RANK'] == '1':\n  print('error: bad data', file=sys.stderr); sys.exit(4)\ntime.sleep(300)"
    with start(code, folder=tmp_path) as running:
        ended = running.wait()
    assert [(end.rank, end.code, end.failed) for end in ended] == [(1, 4, True), (0, -9, True)]
    assert ended[0].tail == ("error: bad data",) and ended[1].says.startswith("killed by SIGKILL")
    assert "error: bad data" in capfd.readouterr().err, "what a process prints is passed on"


def test_every_rank_finds_its_world(tmp_path: Path) -> None:
    names = "RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT"
    said = f"' '.join(os.environ[n] for n in '{names}'.split())"
    code = f"open(os.environ['FOLDER'] + '/' + os.environ['RANK'], 'w').write({said})"
    with start(code, folder=tmp_path) as running:
        assert [end.code for end in running.wait()] == [0, 0]
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["0 2 0 2 127.0.0.1 1", "1 2 1 2 127.0.0.1 1"]


def test_one_process_alone_is_told_of_no_world() -> None:
    assert rank_environment(rank=0, world=1, local_rank=0, local_world=1, address="a", port=1) == {}


def test_nothing_is_left_when_the_launcher_breaks_off(tmp_path: Path) -> None:
    code = "open(os.environ['FOLDER'] + '/pid' + os.environ['RANK'], 'w').write(str(os.getpid()))\ntime.sleep(300)"

    def pid(rank: int) -> int:
        file = tmp_path / f"pid{rank}"
        return int(file.read_text() or 0) if file.exists() else 0

    with pytest.raises(KeyboardInterrupt), start(code, folder=tmp_path):
        while not (pid(0) and pid(1)):
            time.sleep(0.02)
        raise KeyboardInterrupt
    assert not any(psutil.pid_exists(pid(rank)) for rank in range(2))


def test_a_signal_that_comes_while_processes_are_started_reaches_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = subprocess.Popen

    def signalled(*arguments: Any, **options: Any) -> Any:
        process = popen(*arguments, **options)
        os.kill(os.getpid(), signal.SIGUSR1)
        return process

    monkeypatch.setattr(processes.subprocess, "Popen", signalled)
    with start("time.sleep(300)", folder=tmp_path) as running:
        assert [end.code for end in running.wait()] == [-signal.SIGUSR1] * 2
        assert running.told == "SIGUSR1"
