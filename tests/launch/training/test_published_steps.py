"""Our step of each method computes what the published loop computes: every loss and gradient, in float64.

Ours is channels-last (but for Spectroformer), puts passes together, leaves out zeros, freezes other networks and has
norms, attention and spectra of its own; benchmarks/support/published.py does none of this.
"""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from benchmarks.support import common, published
from configs.schema import RunConfig
from launch.machine import memory_layout
from launch.training import build
from pipelines.base import Batch, Pipeline

SIDE = 48
MORE = {
    "drgan": [f"pipeline.noise_patch_px={SIDE}"],  # else ours cuts the residuals into patches
}

Found = dict[str, tuple[Tensor, list[Tensor]]]
"""Loss and gradients of each phase."""


def in_float64(config: RunConfig) -> tuple[Pipeline, Batch]:
    pipeline, (batch, *_) = common.build_first_step(config)
    doubled = {
        name: value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in batch.items()
    }
    return pipeline.double(), doubled


def as_published(config: RunConfig) -> Found:
    pipeline, batch = in_float64(config)
    found: Found = {}
    carry: dict[str, Tensor] = {}
    for phase in pipeline.phases:
        pipeline.zero_grad()
        value, made = published.loss(pipeline, phase, batch, carry)
        carry |= made
        value.backward()
        found[phase] = (
            value.detach(),
            [p.grad.clone() for p in pipeline.trained_parameters(phase) if p.grad is not None],
        )
    return found


def ours(config: RunConfig) -> Found:
    pipeline, batch = in_float64(config)
    memory_layout.place(pipeline, torch.device("cpu"), config.loop)
    found: Found = {}
    carry: dict[str, Tensor] = {}
    off = torch.amp.GradScaler("cpu", enabled=False)
    for phase in build.make_phases(Accelerator(cpu=True), pipeline, config):
        phase.train_only_this()
        value, _, made = phase.backward(batch, carry, off, count=1, last=True)
        carry |= made
        found[phase.name] = value, [p.grad.clone() for p in phase.parameters if p.grad is not None]
    return found


@pytest.mark.parametrize("name", common.SMALL)
def test_losses_and_gradients_are_those_of_the_published_loop(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = common.write_shards(tmp_path, side=SIDE, count=2, **common.image_kind(name))
    config = common.load_config(
        name,
        root,
        *common.SMALL[name],
        f"data.crop={SIDE}",
        "data.batch_size=2",
        "loop.accumulate=1",
        *MORE.get(name, []),
    )
    mine = ours(config)
    published.use_plain_layers(monkeypatch.setattr)
    theirs = as_published(config)
    assert mine.keys() == theirs.keys()
    for phase, (value, gradients) in theirs.items():
        torch.testing.assert_close(mine[phase][0], value, rtol=1e-7, atol=0)  # some weights are kept in float32
        scale = max(float(gradient.abs().max()) for gradient in gradients)
        torch.testing.assert_close(mine[phase][1], gradients, rtol=1e-6, atol=1e-8 * scale)
