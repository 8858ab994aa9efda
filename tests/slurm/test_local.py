"""Processes of one machine meet at a store that their parent holds, on a port that no other program can take."""

import socket
from pathlib import Path

import pytest

from quell.configs.support.paths import ROOT, from_here
from quell.slurm import local
from quell.slurm.stages.task import Task
from tests.support.slurm.launcher import Launcher

ALL_REDUCE = """
import os, sys
import torch
import torch.distributed as dist
dist.init_process_group("gloo")
number = torch.tensor([dist.get_rank() + 1.0])
dist.all_reduce(number)
with open(os.path.join(sys.argv[1], os.environ["RANK"]), "w") as file:
    file.write(f"{number.item():g} {os.environ['MASTER_PORT']}")
dist.barrier()
dist.destroy_process_group()
os._exit(0)  # as launch.cli.leave: gloo's threads may abort an interpreter that shuts down
"""


def test_two_processes_meet_at_the_parents_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[OSError] = []
    start = local.RankProcesses.__enter__

    def bind_and_start(processes: local.RankProcesses) -> local.RankProcesses:
        (environment, *_) = processes.environments.values()
        with socket.socket() as other_program:
            try:
                other_program.bind(("127.0.0.1", int(environment["MASTER_PORT"])))
            except OSError as error:
                refused.append(error)
        return start(processes)

    monkeypatch.setattr(local.RankProcesses, "__enter__", bind_and_start)
    task = Task(
        stage="all_reduce",
        kind="command",
        arguments=("-c", ALL_REDUCE, str(tmp_path)),
        run_dir=str(tmp_path / "run"),
        folder=str(tmp_path / "records"),
        code=str(tmp_path),
    )
    task.write()
    assert local.run_task(task, 2) == 0
    (sum_0, port_0), (sum_1, port_1) = ((tmp_path / rank).read_text().split() for rank in "01")
    assert (sum_0, sum_1) == ("3", "3") and port_0 == port_1
    assert len(refused) == 1, "another program could have taken the port before the first process started"


def test_a_single_process_needs_no_store() -> None:
    with local._rendezvous_store(1) as port:
        assert port == 0


def test_relative_paths_start_in_the_current_folder(launcher: Launcher) -> None:
    """From any folder: stage file, site file and run folder are those of the folder one is in."""
    launcher.stage_file("mine", {"a": {"command": ["-c", "import os; print('WORD' in os.environ)"]}})
    (launcher.folder / "site.yaml").write_text("environment: {WORD: x}\n")
    out = launcher.run("--stages", "mine.yaml", "--site", "./site.yaml", "--run-dir", "out/mine", "--local").out
    assert "\nTrue\n" in out and (launcher.folder / "out" / "mine" / "stages.json").is_file()
    assert "finished" in launcher.run("status", "out/mine").out


def test_what_is_not_in_the_current_folder_is_looked_for_in_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = "configs/stages/progressive.yaml"
    assert from_here(shipped) == ROOT / shipped and from_here("x" * 5000) == tmp_path / ("x" * 5000)
    (tmp_path / shipped).parent.mkdir(parents=True)
    (tmp_path / shipped).touch()
    assert from_here(shipped) == tmp_path / shipped
    assert from_here(tmp_path) == tmp_path
