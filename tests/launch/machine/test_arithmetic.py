"""TF32 and determinism are what the configuration says, and parity checks are made in full float32."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from quell.configs.schema import LoopConfig
from quell.launch.machine import arithmetic, complex_gradients, description, precision
from quell.launch.machine.precision import Precision


@pytest.fixture(autouse=True)
def _switches_as_before() -> Iterator[None]:
    """What torch keeps for the whole process is set back."""
    before = (
        torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.benchmark = before[:3]
    torch.use_deterministic_algorithms(before[3], warn_only=before[4])


def tf32() -> tuple[bool, bool]:
    """Whether convolutions and matrix products may round to TF32."""
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(
    ("wanted", "autocast", "allowed"),
    [("auto", "no", False), ("auto", "bf16", True), ("auto", "fp16", True), (True, "no", True), (False, "bf16", False)],
)
def test_tf32_follows_the_configuration(wanted: bool, autocast: str, allowed: bool) -> None:
    loop = LoopConfig.model_validate({"tf32": wanted})
    assert arithmetic.set_tf32(loop, autocast) == allowed and tf32() == (allowed, allowed)


def test_checks_that_compare_with_float32_are_made_without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    arithmetic.set_tf32(LoopConfig(tf32=True), "no")
    seen: list[tuple[bool, bool]] = []
    conv2d = nn.functional.conv2d

    def watched(*arguments: Any) -> torch.Tensor:
        seen.append(tf32())
        return conv2d(*arguments)

    monkeypatch.setattr(nn.functional, "conv2d", watched)
    assert precision.computes(torch.device("cpu"), torch.bfloat16)
    assert seen == [(False, False)] * 2 and tf32() == (True, True)

    class Watching:
        num_processes, process_index, device = 1, 0, torch.device("cpu")

        def prepare_model(self, layer: nn.Module) -> nn.Module:
            seen.append(tf32())
            return layer

    monkeypatch.setattr(torch.distributed, "all_reduce", lambda *_, **__: None)
    assert complex_gradients.complex_gradient_difference(Watching()) < 1e-6
    assert seen[-1] == (False, False) and tf32() == (True, True)


def test_the_fastest_algorithms_are_tried_only_where_determinism_is_not_asked_for() -> None:
    arithmetic.set_determinism(True)
    assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
    arithmetic.set_determinism(False)  # also after a deterministic run in the same process
    assert not torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.benchmark


def test_the_first_line_of_the_log_says_what_a_run_computes_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100")
    line = description.describe(
        LoopConfig(), torch.device("cuda", 1), 8, Precision("bf16", "auto: why"), tf32=True, channels_last=True
    )
    assert line == (
        "training with 8 processes on cuda:1 (NVIDIA H100), precision bf16 (auto: why), TF32 on, deterministic, "
        "channels last"
    )
    line = description.describe(
        LoopConfig(deterministic=False), torch.device("cpu"), 1, Precision("no", "why"), tf32=False, channels_last=False
    )
    assert "TF32" not in line and line.endswith("precision no (why), fastest algorithms, not deterministic, NCHW")
