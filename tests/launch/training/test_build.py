"""Building the parts of a run: batch norms that span all processes."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from configs.fields import FieldSpec
from configs.schema import LoopConfig
from launch.training.build import synchronise_batch_norm
from pipelines.supervised import Supervised

FIELDS = {"noisy": FieldSpec(1), "clean": FieldSpec(1)}


@pytest.fixture
def pipeline() -> Supervised:
    network = {"name": "dncnn", "depth": 4, "width": 4, "norm": "batch"}
    return Supervised(Supervised.Config(name="supervised", network=network), FIELDS)


@pytest.fixture
def tracker() -> Any:
    warnings: list[str] = []
    return SimpleNamespace(warnings=warnings, warning=lambda name, message, step: warnings.append(message))


def norms(pipeline: nn.Module) -> list[nn.Module]:
    return [module for module in pipeline.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def test_on_cuda_every_batch_norm_is_synchronised_and_keeps_its_weights(pipeline: Supervised, tracker: Any) -> None:
    before = {name: value.clone() for name, value in pipeline.checkpoint_state().items()}
    assert norms(pipeline) and not any(isinstance(norm, nn.SyncBatchNorm) for norm in norms(pipeline))
    synchronise_batch_norm(pipeline, torch.device("cuda"), 2, LoopConfig(sync_batchnorm=True), tracker)
    assert norms(pipeline) and all(isinstance(norm, nn.SyncBatchNorm) for norm in norms(pipeline))
    after = pipeline.checkpoint_state()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.requires_grad for parameter in pipeline.trained_parameters("restorer"))
    assert tracker.warnings == []


@pytest.mark.parametrize(
    ("device", "world", "wanted", "warned"),
    [("cpu", 2, True, True), ("cuda", 1, True, False), ("cuda", 2, False, False)],
    ids=["on a CPU", "alone", "not asked for"],
)
def test_otherwise_batch_norms_stay_and_a_cpu_run_warns(
    pipeline: Supervised, tracker: Any, device: str, world: int, wanted: bool, warned: bool
) -> None:
    synchronise_batch_norm(pipeline, torch.device(device), world, LoopConfig(sync_batchnorm=wanted), tracker)
    assert norms(pipeline) and not any(isinstance(norm, nn.SyncBatchNorm) for norm in norms(pipeline))
    assert bool(tracker.warnings) == warned
    assert not warned or "CUDA only: on cpu statistics stay per process" in tracker.warnings[0]
