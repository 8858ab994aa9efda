"""When ranks lose each other, the error names the one to blame, and no library's own message reaches the user."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch.distributed as dist

from quell.configs.errors import MachineError
from quell.launch.machine import ranks
from tests.support.ports import free_ports

TIMED_OUT = "[/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 6000ms for recv"
CLOSED = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4242"

RANK = """
import os, signal, sys, time
from quell.launch import cli
def work():
    import torch
    import torch.distributed as dist
    from quell.launch.machine import ranks
    from quell.launch.machine.acceleration import TIMEOUT
    dist.init_process_group("gloo", timeout=TIMEOUT)
    with ranks.explained():
        for step in range(10**6):
            dist.all_reduce(torch.ones(3))
            if step == 2:
                print("meeting", flush=True)
    return 0
cli.leave(cli.run(work))
"""


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "BEAT_S", 0.02)
    monkeypatch.setattr(ranks, "PATIENCE_S", 0.5)
    monkeypatch.setenv("WORLD_SIZE", "4")


def signs(store: dist.Store, rank: int, world: int = 4) -> ranks.SignsOfLife:
    return ranks.SignsOfLife(store, store, rank, world)


def test_the_rank_that_gives_no_sign_of_life_is_found() -> None:
    store = dist.HashStore()
    store.set("quell/rank/2", "17")  # it was there, and is not any more
    with signs(store, 0) as own, signs(store, 1):
        with signs(store, 3):
            pass  # it has left because of rank 2, and says so
        assert own.silent() == [2]
        assert ranks.sentence(RuntimeError(TIMED_OUT), own).startswith("rank 2 did not answer for 10 minutes: ")
        assert ranks.sentence(RuntimeError(CLOSED), own).startswith("lost the connection to rank 2: ")


class Unreachable:
    """A store whose process is frozen."""

    def check(self, _: list[str]) -> bool:
        raise dist.DistNetworkError("Connection reset by peer")


def test_a_store_that_does_not_answer_is_that_of_rank_0() -> None:
    store = dist.HashStore()
    lost = ranks.SignsOfLife(store, Unreachable(), 1, 2)  # type: ignore[arg-type]
    assert lost.silent() == [0]


def test_errors_of_the_communication_are_explained_and_others_are_not() -> None:
    for message in (
        TIMED_OUT,
        CLOSED,
        "NCCL error: unhandled system error",
        "The client socket has timed out after 60s",
    ):
        with pytest.raises(MachineError) as caught, ranks.explained():
            raise RuntimeError(message)
        assert "another rank" in str(caught.value) and "\n" not in str(caught.value)
        assert "gloo" not in str(caught.value) and "NCCL" not in str(caught.value)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), ranks.explained():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)")


def test_two_ranks_with_one_gpu_are_told_what_to_start() -> None:
    nccl = "NCCL error: invalid usage. Last error:\nDuplicate GPU detected : rank 1 and rank 0 both on CUDA device 1000"
    with pytest.raises(MachineError, match="two ranks on one machine have the same GPU"), ranks.explained():
        raise RuntimeError(nccl)


def test_one_process_has_nobody_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(RuntimeError, match="gloo"), ranks.explained():
        raise RuntimeError(TIMED_OUT)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["frozen", "killed"])
def test_a_frozen_or_killed_rank_is_named_by_the_other(victim: int, number: int, root: Path) -> None:
    """`free_ports` and real processes; takes the time-out and the patience, about half a minute together."""
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_ports(1)[0])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RANK],
            cwd=root,
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank), "QUELL_TIMEOUT_MINUTES": "0.1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "meeting\n"
        time.sleep(2 * 1.0)  # two signs of life
        processes[victim].send_signal(number)
        _, error = processes[1 - victim].communicate(timeout=120)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert processes[1 - victim].returncode == 6
    assert error.count("\n") == 1 and f"rank {victim}" in error.split("error: ")[1]
