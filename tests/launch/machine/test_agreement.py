"""What one rank suffers is raised on all of them."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from quell.configs.errors import CheckpointError, MachineError
from quell.launch.machine import agreement


def test_the_error_of_the_lowest_rank_is_raised_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    others: list[MachineError | None] = [None, MachineError("rank 1: disk full"), None]

    def gather(errors: list[Any], own: object) -> None:
        errors[:] = [*others[:2], own]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    with pytest.raises(MachineError, match="rank 1: disk full"):
        agreement.on_all(lambda: None, 3)

    def fail() -> None:
        raise MachineError("rank 2: a consequence")

    with pytest.raises(MachineError, match="rank 1: disk full"):
        agreement.on_all(fail, 3)
    with pytest.raises(MachineError, match="a consequence"):
        agreement.on_all(fail, 1)


def test_rank_0_decides_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def broadcast(told: list[Any]) -> None:
        told[:] = [None, CheckpointError("no checkpoint")]

    monkeypatch.setattr(agreement, "broadcast_object_list", broadcast)
    alone: Any = SimpleNamespace(is_main_process=True, num_processes=1)
    rank_1: Any = SimpleNamespace(is_main_process=False, num_processes=2)
    assert agreement.on_first(alone, lambda: 5) == 5
    with pytest.raises(CheckpointError, match="no checkpoint"):
        agreement.on_first(rank_1, lambda: 5)
