"""A training step of each method gives the losses and gradients of the published training loop, in float64.

This project uses channels-last memory (except for Spectroformer), batches passes, skips terms with weight zero, freezes
the networks of other phases, and has its own norms, attention and spectra. benchmarks/support/published.py does none of
that.
"""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from benchmarks.support import common, published
from quell.configs.schema import RunConfig
from quell.launch.machine import memory_layout
from quell.launch.training import build
from quell.pipelines.base import Batch, Pipeline

SIDE_PX = 48
EXTRA_OVERRIDES = {
    "drgan": [f"pipeline.noise_patch_px={SIDE_PX}"],  # one patch, as the published loop does not cut residuals
}

PhaseGradients = dict[str, tuple[Tensor, list[Tensor]]]
"""Loss and gradients by phase."""


def build_in_float64(config: RunConfig) -> tuple[Pipeline, Batch]:
    pipeline, (batch, *_) = common.build_first_step(config)
    batch_in_float64 = {
        name: value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in batch.items()
    }
    return pipeline.double(), batch_in_float64


def published_gradients(config: RunConfig) -> PhaseGradients:
    pipeline, batch = build_in_float64(config)
    gradients: PhaseGradients = {}
    carry: dict[str, Tensor] = {}
    for phase in pipeline.phases:
        pipeline.zero_grad()
        value, new_carry = published.loss(pipeline, phase, batch, carry)
        carry |= new_carry
        value.backward()
        gradients[phase] = (
            value.detach(),
            [p.grad.clone() for p in pipeline.trained_parameters(phase) if p.grad is not None],
        )
    return gradients


def phase_gradients(config: RunConfig) -> PhaseGradients:
    pipeline, batch = build_in_float64(config)
    memory_layout.place(pipeline, torch.device("cpu"), config.loop)
    gradients: PhaseGradients = {}
    carry: dict[str, Tensor] = {}
    no_scaler = torch.amp.GradScaler("cpu", enabled=False)
    for phase in build.make_phases(Accelerator(cpu=True), pipeline, config):
        phase.train_only_this()
        value, _, new_carry = phase.backward(batch, carry, no_scaler, count=1, last=True)
        carry |= new_carry
        gradients[phase.name] = value, [p.grad.clone() for p in phase.parameters if p.grad is not None]
    return gradients


@pytest.mark.parametrize("name", common.SMALL)
def test_losses_and_gradients_equal_those_of_the_published_loop(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = common.write_shards(tmp_path, side=SIDE_PX, count=2, **common.image_kind(name))
    config = common.load_config(
        name,
        root,
        *common.SMALL[name],
        f"data.crop={SIDE_PX}",
        "data.batch_size=2",
        "loop.accumulate=1",
        *EXTRA_OVERRIDES.get(name, []),
    )
    actual = phase_gradients(config)
    published.use_plain_layers(monkeypatch.setattr)
    expected = published_gradients(config)
    assert actual.keys() == expected.keys()
    for phase, (value, gradients) in expected.items():
        torch.testing.assert_close(actual[phase][0], value, rtol=1e-7, atol=0)  # some weights are kept in float32
        scale = max(float(gradient.abs().max()) for gradient in gradients)
        torch.testing.assert_close(actual[phase][1], gradients, rtol=1e-6, atol=1e-8 * scale)
