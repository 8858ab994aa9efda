"""Every rank uses its own device and no other, whatever kind it is; cores are shared fairly."""

import importlib.util
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from quell.configs.errors import ConfigError, MachineError
from quell.configs.schema import LoopConfig
from quell.launch.data import loading
from quell.launch.machine import acceleration, devices, memory_layout, out_of_memory, precision, rng, threads
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


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Pretend that this machine has an Apple GPU, which is never used."""
    for variable in ("ACCELERATE_USE_CPU", "ACCELERATE_MIXED_PRECISION", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(variable, raising=False)
    device = torch.device("mps")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: device)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12_000_000_000)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 3_000_000_000)
    monkeypatch.setattr(torch.backends.mps, "get_name", lambda: "Apple M3", raising=False)
    return device


def test_an_apple_gpu_is_found_named_and_measured(apple: torch.device) -> None:
    assert devices.default_device() == apple
    assert devices.describe(apple) == "mps (Apple M3)"
    assert (devices.peak_bytes(apple), devices.total_bytes(apple)) == (3_000_000_000, 12_000_000_000)
    assert not devices.pins_memory(apple)
    assert precision.choose(LoopConfig(), apple).name == "no"
    assert not memory_layout.takes_channels_last(torch.nn.Conv2d(1, 1, 1), apple, LoopConfig())


@pytest.mark.parametrize("name", ["bf16", "fp16"])
@pytest.mark.parametrize("computes", [True, False])
def test_an_apple_gpu_computes_in_the_precision_that_a_probe_computes_in(
    name: str, computes: bool, apple: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "computes", lambda device, dtype: computes)
    loop = LoopConfig.model_validate({"precision": name})
    if computes:
        assert precision.choose(loop, apple).name == name
    else:
        with pytest.raises(ConfigError, match=f"{name} is not supported by mps"):
            precision.choose(loop, apple)


def test_batches_are_copied_to_an_apple_gpu_before_their_memory_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its copies from ordinary memory may end after the memory has been given to the next batch."""
    copies: list[tuple[object, ...]] = []
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *where, **how: copies.append((*where, how)))
    for kind in ("cpu", "mps", "cuda", "xpu"):
        loading.to_device({"noisy": torch.zeros(1)}, torch.device(kind))
    assert [how["non_blocking"] for _, how in copies] == [False, False, True, True]  # type: ignore[index]


def test_several_processes_on_an_apple_gpu_are_refused(apple: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MachineError, match="start one process, or train on the CPU"):
        acceleration.make_accelerator(LoopConfig())


def test_an_operator_without_a_kernel_for_apple_gpus_is_one_sentence(apple: torch.device) -> None:
    says = (
        "The operator 'aten::_fft_c2c' is not currently implemented for the MPS device. If you want this op to be "
        "considered for addition please comment on https://github.com/pytorch/pytorch/issues/77764"
    )
    match = r"no kernel for aten::_fft_c2c on Apple GPUs: set PYTORCH_ENABLE_MPS_FALLBACK=1 .* ACCELERATE_USE_CPU=true$"
    with pytest.raises(MachineError, match=match), out_of_memory.explained(apple, lambda: "training"):
        raise NotImplementedError(says)
    with pytest.raises(NotImplementedError, match="abstract"), out_of_memory.explained(apple, lambda: "training"):
        raise NotImplementedError("abstract")


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
