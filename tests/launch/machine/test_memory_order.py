"""Memory layout of weights and optimizer state, and the settings of deterministic runs."""

import copy

import pytest
import torch
from torch import nn

from quell.configs.schema import LoopConfig, OptimizerConfig
from quell.launch.machine import acceleration, memory_layout
from quell.launch.training import optimizers
from quell.launch.training.phases import Phase

CPU = torch.device("cpu")


def test_real_weights_and_their_outputs_are_channels_last() -> None:
    network = nn.Conv2d(3, 64, 3)
    memory_layout.place(network, CPU, LoopConfig(channels_last=True))
    assert network.weight.is_contiguous(memory_format=torch.channels_last)
    assert network(torch.rand(2, 3, 8, 8)).is_contiguous(memory_format=torch.channels_last)


def test_by_default_narrow_networks_are_channels_last_and_wide_ones_planar_on_cpu() -> None:
    narrow = nn.Sequential(nn.Conv2d(3, 31, 3), nn.Conv2d(31, 32, 3))
    wide = nn.Sequential(nn.Conv2d(3, 32, 3), nn.Conv2d(32, 1, 3))
    for network in (narrow, wide):
        memory_layout.place(network, CPU, LoopConfig())
        first = network[0]
        assert isinstance(first, nn.Conv2d)
        is_last = first.weight.is_contiguous(memory_format=torch.channels_last)
        assert is_last == memory_layout.is_narrow(network) == (network is narrow)


def test_by_default_every_real_network_is_channels_last_on_a_gpu() -> None:
    wide = nn.Conv2d(3, 64, 3, device="meta")
    memory_layout.place(wide, torch.device("meta"), LoopConfig())
    assert wide.weight.is_contiguous(memory_format=torch.channels_last)


def test_by_default_apple_gpus_keep_the_order_that_was_tested() -> None:
    wide = nn.Conv2d(3, 64, 3)
    assert not memory_layout.takes_channels_last(wide, torch.device("mps"), LoopConfig())
    assert memory_layout.takes_channels_last(wide, torch.device("mps"), LoopConfig(channels_last=True))


def test_a_network_can_be_kept_planar_and_complex_ones_always_are() -> None:
    planar, complex_layer = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3, dtype=torch.complex64)
    memory_layout.place(planar, CPU, LoopConfig(channels_last=False))
    memory_layout.place(complex_layer, CPU, LoopConfig(channels_last=True))
    assert planar.weight.is_contiguous() and complex_layer.weight.is_contiguous()


def test_deterministic_runs_do_not_fill_every_new_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    accelerator = acceleration.make_accelerator(LoopConfig(deterministic=True, threads=1))
    try:
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        acceleration.close(accelerator)


def test_moments_of_a_planar_run_can_be_loaded_into_a_channels_last_one() -> None:
    """Fused optimizers iterate over weights and moments in memory order and ignore their strides."""
    orders = (torch.contiguous_format, torch.channels_last)
    values = torch.randn(3, 4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    parameters = [nn.Parameter(values[0].contiguous(memory_format=order)) for order in orders]
    phases = []
    for parameter in parameters:
        phase = object.__new__(Phase)
        phase.parameters = [parameter]
        phase.optimizer = optimizers.make(OptimizerConfig(lr=0.1), "restorer", [parameter])
        phases.append(phase)
    planar, channels_last = phases

    def step(phase: Phase, gradient: torch.Tensor) -> None:
        (parameter,) = phase.parameters
        parameter.grad = torch.empty_like(parameter).copy_(gradient)
        phase.optimizer.step()

    step(planar, values[1])
    with torch.no_grad():
        parameters[1].copy_(parameters[0])
    channels_last.load_optimizer_state(copy.deepcopy(planar.optimizer_state()))
    for phase in phases:
        step(phase, values[2])
    torch.testing.assert_close(parameters[1], parameters[0], rtol=1e-6, atol=1e-7)
