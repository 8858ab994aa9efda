"""Parts of a run: batch norms synchronised on CUDA only, networks refused that fit no memory, the time-out."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quell.configs.errors import ConfigError
from quell.configs.fields import FieldSpec
from quell.configs.schema import LoopConfig
from quell.launch.machine.acceleration import read_timeout
from quell.launch.training import build
from quell.launch.training.build import synchronise_batch_norm
from quell.pipelines.supervised import Supervised

FIELDS = {"noisy": FieldSpec(1), "clean": FieldSpec(1)}


@pytest.fixture
def pipeline() -> Supervised:
    network = {"name": "dncnn", "depth": 4, "width": 4, "norm": "batch"}
    return Supervised(Supervised.Config(name="supervised", network=network), FIELDS)


@pytest.fixture
def tracker() -> Any:
    """Records warnings instead of logging them."""
    warnings: list[str] = []
    return SimpleNamespace(warnings=warnings, warning=lambda name, message, step: warnings.append(message))


def batch_norms(pipeline: nn.Module) -> list[nn.Module]:
    return [module for module in pipeline.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def test_on_cuda_every_batch_norm_is_synchronised_and_keeps_its_weights(pipeline: Supervised, tracker: Any) -> None:
    before = {name: value.clone() for name, value in pipeline.checkpoint_state().items()}
    assert batch_norms(pipeline) and not any(isinstance(norm, nn.SyncBatchNorm) for norm in batch_norms(pipeline))
    synchronise_batch_norm(pipeline, torch.device("cuda"), 2, LoopConfig(sync_batchnorm=True), tracker)
    assert batch_norms(pipeline) and all(isinstance(norm, nn.SyncBatchNorm) for norm in batch_norms(pipeline))
    after = pipeline.checkpoint_state()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.requires_grad for parameter in pipeline.trained_parameters("restorer"))
    assert tracker.warnings == []


@pytest.mark.parametrize(
    ("device", "world_size", "requested", "warns"),
    [("cpu", 2, True, True), ("cuda", 1, True, False), ("cuda", 2, False, False)],
    ids=["on CPU", "one process", "not requested"],
)
def test_otherwise_batch_norms_are_unchanged_and_a_run_on_cpu_warns(
    pipeline: Supervised, tracker: Any, device: str, world_size: int, requested: bool, warns: bool
) -> None:
    synchronise_batch_norm(pipeline, torch.device(device), world_size, LoopConfig(sync_batchnorm=requested), tracker)
    assert batch_norms(pipeline) and not any(isinstance(norm, nn.SyncBatchNorm) for norm in batch_norms(pipeline))
    assert bool(tracker.warnings) == warns
    assert not warns or "CUDA only: on cpu statistics stay per process" in tracker.warnings[0]


def test_networks_that_do_not_fit_the_memory_are_refused_before_they_are_allocated() -> None:
    with pytest.raises(ConfigError, match=r"GB of weights, and this machine has .* choose smaller widths"):
        build.refuse_oversized(lambda: nn.Linear(10**7, 10**7))
    build.refuse_oversized(lambda: nn.Linear(2, 2))


@pytest.mark.parametrize("initialise", [nn.init.orthogonal_, nn.init.trunc_normal_, nn.init.kaiming_normal_])
def test_networks_are_measured_whatever_initialises_their_weights(initialise: Callable[[Tensor], Tensor]) -> None:
    def network() -> nn.Module:
        large = nn.Linear(10**7, 10**7)
        initialise(large.weight)
        return large

    with pytest.raises(ConfigError, match="GB of weights"):
        build.refuse_oversized(network)


@pytest.mark.parametrize("text", ["abc", "", "0", "-1", "nan", "inf", "1e9"])
def test_a_time_out_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"QUELL_TIMEOUT_MINUTES: expected a number .*, got '{text}'"):
        read_timeout(text)
    assert read_timeout("0.5").total_seconds() == 30
