"""Processes of one machine meet at a store that their parent holds, on a port that nobody else can take."""

import socket
from pathlib import Path

import pytest

from slurm import local
from slurm.stages.task import Task

MEETS = """
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
os._exit(0)  # as launch.cli.leave: threads of gloo may abort a Python that tears itself down
"""


def test_two_processes_meet_at_the_parents_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[OSError] = []
    start = local.Children.__enter__

    def try_to_take_the_port(children: local.Children) -> local.Children:
        (environment, *_) = children._start[1].values()
        with socket.socket() as other:
            try:
                other.bind(("127.0.0.1", int(environment["MASTER_PORT"])))
            except OSError as error:
                taken.append(error)
        return start(children)

    monkeypatch.setattr(local.Children, "__enter__", try_to_take_the_port)
    task = Task(
        stage="meets",
        kind="command",
        arguments=("-c", MEETS, str(tmp_path)),
        run_dir=str(tmp_path / "run"),
        folder=str(tmp_path / "records"),
        code=str(tmp_path),
    )
    task.write()
    assert local.run_task(task, 2) == 0
    said = [(tmp_path / rank).read_text().split() for rank in "01"]
    assert [number for number, _ in said] == ["3", "3"] and said[0][1] == said[1][1]
    assert len(taken) == 1, "another program could have taken the port before the first process started"


def test_one_process_needs_no_store() -> None:
    with local._store(1) as port:
        assert port == 0
