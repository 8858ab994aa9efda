"""A job that asked for GPUs does not compute on CPUs without a word."""

import pytest
import torch

from quell.configs.errors import MachineError
from quell.configs.schema import LoopConfig
from quell.launch.machine import acceleration, devices


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_accelerator", lambda: None)
    monkeypatch.setenv("QUELL_WANTS_GPUS", "1")
    monkeypatch.setenv("SLURMD_NODENAME", "n3")


def test_a_node_without_gpus_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "12.9")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    for start in (lambda: acceleration.make_accelerator(LoopConfig()), devices.take_device):
        with pytest.raises(MachineError, match=r"finds none on node n3 \(CUDA_VISIBLE_DEVICES is 0,1\): look"):
            start()


def test_a_build_without_cuda_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    with pytest.raises(MachineError, match="was built without CUDA support: install a CUDA build"):
        acceleration.make_accelerator(LoopConfig())


def test_whoever_did_not_ask_for_gpus_gets_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUELL_WANTS_GPUS")
    assert devices.take_device().type == "cpu"
