"""Every rank uses its own device and no other, whatever kind it is; cores are shared fairly."""

import importlib.util
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from quell.configs.errors import MachineError
from quell.configs.schema import LoopConfig
from quell.launch.machine import acceleration, devices, rng, threads
from quell.launch.machine.threads import Cores

Use = tuple[str, object]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[Use]]:
    """Pretend that this process sees so many GPUs of NVIDIA; returns a list of what was done to them, in order."""

    def pretend(count: int) -> list[Use]:
        uses: list[Use] = []
        zeros = torch.zeros

        def zeros_anywhere(*size: Any, device: torch.device | str = "cpu", **settings: Any) -> torch.Tensor:
            if torch.device(device).type == "cuda":
                uses.append(("tensor", str(device)))
                device = "cpu"
            return zeros(*size, device=device, **settings)

        monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "set_device", lambda device: uses.append(("set", str(device))))
        monkeypatch.setattr(torch, "zeros", zeros_anywhere)
        return uses

    for variable in ("ACCELERATE_USE_CPU", "LOCAL_RANK"):
        monkeypatch.delenv(variable, raising=False)
    return pretend


@pytest.mark.parametrize(
    ("visible", "local_rank", "index"),
    [(8, 3, 3), (1, 3, 0), (1, 0, 0)],
    ids=["all GPUs are visible", "each task sees its own", "the first task"],
)
def test_a_rank_sets_its_device_before_it_uses_any(
    visible: int, local_rank: int, index: int, gpus: Callable[[int], list[Use]], monkeypatch: pytest.MonkeyPatch
) -> None:
    uses = gpus(visible)
    monkeypatch.setenv("LOCAL_RANK", str(local_rank))
    assert devices.take_device() == torch.device("cuda", index)
    assert uses == [("set", f"cuda:{index}"), ("tensor", f"cuda:{index}")]
    assert os.environ["LOCAL_RANK"] == str(index)  # accelerate gives it to DDP as the index of the device


def test_the_device_is_taken_before_the_process_group_forms(
    gpus: Callable[[int], list[Use]], monkeypatch: pytest.MonkeyPatch
) -> None:
    uses = gpus(4)
    monkeypatch.setenv("LOCAL_RANK", "2")

    class FormedError(Exception):
        pass

    def form(**settings: object) -> None:
        assert settings["cpu"] is False and settings["mixed_precision"] == "no"
        raise FormedError

    monkeypatch.setattr(acceleration, "Accelerator", form)
    with pytest.raises(FormedError):
        acceleration.make_accelerator(LoopConfig())
    assert uses[0] == ("set", "cuda:2") and all(where == "cuda:2" for _, where in uses)


def test_a_device_that_is_busy_is_named(gpus: Callable[[int], list[Use]], monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(1)

    def busy(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nCUDA kernel errors might be")

    monkeypatch.setattr(torch, "zeros", busy)
    with pytest.raises(MachineError, match=r"cuda cannot be used \(CUDA error: all .* unavailable\): another process"):
        devices.take_device()


def test_the_launcher_can_ask_for_the_cpu_on_a_machine_with_gpus(
    gpus: Callable[[int], list[Use]], monkeypatch: pytest.MonkeyPatch
) -> None:
    uses = gpus(1)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: pytest.fail("the GPU's random state was read"))
    assert devices.take_device() == torch.device("cpu") == devices.default_device()
    state = rng.random_state(torch.device("cpu"))
    rng.set_random_state({**state, "cuda": torch.zeros(16, dtype=torch.uint8)})
    assert "cuda" not in state and not uses


def test_deepspeed_on_the_cpu_is_refused_where_accelerate_would_take_the_gpu(
    gpus: Callable[[int], list[Use]], monkeypatch: pytest.MonkeyPatch
) -> None:
    uses = gpus(1)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(MachineError, match=r"hide the GPU \(CUDA_VISIBLE_DEVICES=''\)"):
        acceleration.make_accelerator(LoopConfig())
    assert not uses


@pytest.mark.parametrize("kind", ["cuda", "xpu", "mps"])
def test_the_random_state_of_every_kind_of_device_is_kept(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    restored: list[object] = []
    fake = SimpleNamespace(get_rng_state=lambda: "drawn", set_rng_state=restored.append)
    monkeypatch.setattr(devices, "module_of", lambda _: fake)
    monkeypatch.setattr(devices, "default_device", lambda: torch.device(kind))
    rng.set_random_state(rng.random_state(torch.device(kind)))
    assert restored == ["drawn"]


@pytest.mark.parametrize("kind", ["cuda", "xpu", "mps"])
def test_torch_before_2_6_finds_the_same_accelerator(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.delattr(torch, "accelerator")
    for each in ("cuda", "xpu", "mps"):
        module = torch.backends.mps if each == "mps" else getattr(torch, each)
        monkeypatch.setattr(module, "is_available", lambda each=each: each == kind)
    assert devices.default_device() == torch.device(kind)
    monkeypatch.setattr(torch.backends.mps if kind == "mps" else getattr(torch, kind), "is_available", lambda: False)
    assert devices.default_device() == torch.device("cpu")


def test_this_processor_has_a_name_and_memory() -> None:
    cpu = torch.device("cpu")
    peak, total = devices.peak_bytes(cpu), devices.total_bytes(cpu)
    assert devices.name(cpu) in devices.describe(cpu) and not devices.pins_memory(cpu)
    assert peak is not None and total is not None and 1e7 < peak < total


@pytest.mark.parametrize(
    ("masks", "shares"),
    [
        ((range(8), range(8), range(8), range(8)), (2, 2, 2, 2)),
        ((range(4), range(4, 8)), (4, 4)),  # SLURM gave each task its own
        ((range(4), range(4), range(4, 8)), (2, 2, 4)),
        ((range(1), range(1)), (1, 1)),
    ],
    ids=["one mask for all", "a mask for each", "both", "one core for two"],
)
def test_ranks_divide_only_the_cores_that_they_share(masks: tuple[range, ...], shares: tuple[int, ...]) -> None:
    own = [Cores("here", frozenset(mask)) for mask in masks]
    elsewhere = [Cores("there", frozenset(range(8)))] * 3
    assert tuple(threads.share(cores, [*own, *elsewhere]) for cores in own) == shares
