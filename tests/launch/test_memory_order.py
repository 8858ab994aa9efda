"""Where weights lie in memory, and what determinism does not cost."""

from typing import Any

import torch
from torch import nn

from configs.schema import LoopConfig
from launch import environment

CPU = torch.device("cpu")


def test_real_weights_and_what_they_give_are_channels_last() -> None:
    network = nn.Conv2d(3, 4, 3)
    environment.place(network, CPU, LoopConfig())
    assert network.weight.is_contiguous(memory_format=torch.channels_last)
    assert network(torch.rand(2, 3, 8, 8)).is_contiguous(memory_format=torch.channels_last)


def test_planar_is_a_choice_and_complex_networks_stay_planar() -> None:
    chosen, complex_one = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3, dtype=torch.complex64)
    environment.place(chosen, CPU, LoopConfig(channels_last=False))
    environment.place(complex_one, CPU, LoopConfig())
    assert chosen.weight.is_contiguous() and complex_one.weight.is_contiguous()


def test_deterministic_runs_do_not_fill_every_new_tensor(monkeypatch: Any) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    accelerator = environment.make_accelerator(LoopConfig(deterministic=True, threads=1))
    try:
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        environment.close(accelerator)
