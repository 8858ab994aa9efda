"""Each optimisation of the step computes what the plain version computes: weights, averages, skips, logged means."""

import copy
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from configs.fields import FieldSpec
from configs.schema import OptimizerConfig
from launch.training import optimizers
from launch.training.ema import Average
from launch.training.metric_log import MetricLog
from launch.training.phases import Phase, train_step
from pipelines.base import Batch
from pipelines.tcfl import Tcfl

OFF = torch.amp.GradScaler("cpu", enabled=False)
GENERATOR = {"name": "dncnn", "depth": 4, "width": 6, "residual": False, "norm": "instance"}
CRITIC = {"name": "patch_discriminator", "width": 4}


def tcfl(**options: Any) -> Tcfl:
    torch.manual_seed(0)
    config = Tcfl.Config(name="tcfl", generator=GENERATOR, critic=CRITIC, pool_size=0, **options)
    return Tcfl(config, dict.fromkeys(("noisy", "noisy_other", "unpaired_clean"), FieldSpec(1))).double()


def batches(count: int) -> list[Batch]:
    random = torch.Generator().manual_seed(1)
    names = ("noisy", "noisy_other", "unpaired_clean")
    return [
        {
            **{name: torch.rand(2, 1, 40, 40, generator=random, dtype=torch.float64) for name in names},
            **{f"{name}_scale": torch.ones(2, 1, 1, 1) for name in names},
        }
        for _ in range(count)
    ]


def plain_step(pipeline: Tcfl, made: dict[str, torch.optim.Optimizer], batch: Batch, clip: float) -> None:
    """Nothing frozen, nothing fused, six generator passes, torch's own clipping."""
    carry: dict[str, torch.Tensor] = {}
    for name, optimizer in made.items():
        pipeline.zero_grad()
        step = pipeline.loss(name, batch, carry)
        carry |= step.carry
        step.loss.backward()
        nn.utils.clip_grad_norm_(pipeline.trained_parameters(name), clip)
        optimizer.step()


def test_a_step_of_two_phases_equals_the_plain_loop() -> None:
    """Batched passes, frozen networks, fused AdamW and device-side skipping, over three steps in float64."""
    fast, plain = tcfl(batch_passes=True), tcfl(batch_passes=False)
    settings = OptimizerConfig(lr=1e-2)
    config: Any = SimpleNamespace(optimizer=settings, loop=SimpleNamespace(clip_norm=0.5))
    phases = [Phase(Accelerator(cpu=True), fast, name, config) for name in fast.phases]
    made = {
        name: torch.optim.AdamW(plain.trained_parameters(name), lr=1e-2, weight_decay=0.0, foreach=False)
        for name in plain.phases
    }
    for step, batch in enumerate(batches(3)):
        train_step(phases, fast, step, [batch], OFF)
        plain_step(plain, made, batch, 0.5)
    for (name, one), other in zip(fast.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.parametrize("value", [0.0, 1.5, -2e38, 1e-40, float("inf"), float("-inf"), float("nan")])
def test_the_short_finite_check_is_the_long_one(value: float) -> None:
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.full((1,), value)
    optimizer = optimizers.make(OptimizerConfig(lr=0.1), "restorer", [parameter])
    _, bad = optimizers.apply(optimizer, [parameter], clip=None, scaler=OFF)
    assert bool(bad) == (not bool(torch.isfinite(torch.tensor(abs(value)))))


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("clip", [0.5, 1e6])
def test_clipping_inside_the_fused_step_is_torchs_clipping(name: str, clip: float) -> None:
    values = torch.randn(2, 40, generator=torch.Generator().manual_seed(0))
    fast, plain = nn.Parameter(values[0].clone()), nn.Parameter(values[0].clone())
    settings = OptimizerConfig.model_validate({"name": name, "lr": 0.1})
    made = optimizers.make(settings, "restorer", [fast]), optimizers.make(settings, "restorer", [plain])
    for scale in (1.0, 3.0):
        fast.grad, plain.grad = scale * values[1], scale * values[1]
        norm, _ = optimizers.apply(made[0], [fast], clip=clip, scaler=OFF)
        assert float(norm) == float(nn.utils.clip_grad_norm_([plain], clip))
        made[1].step()
    torch.testing.assert_close(fast, plain, rtol=1e-6, atol=1e-7)


def test_the_average_equals_the_one_written_out() -> None:
    pipeline = tcfl()
    pipeline.register_buffer("counted", torch.zeros((), dtype=torch.long))
    average = Average(pipeline, 0.9)
    expected = copy.deepcopy(average.state)
    for step in range(4):
        with torch.no_grad():
            pipeline.counted += 1
            for parameter in pipeline.parameters():
                parameter.add_(torch.rand_like(parameter))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in pipeline.checkpoint_state().items():
            mixed = decay * expected[name] + (1 - decay) * value if value.is_floating_point() else value.clone()
            expected[name] = mixed
    for name, value in average.state.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)


def test_epoch_means_are_the_same_wherever_the_reading_is_cut() -> None:
    """Bit for bit: they may change a method's weights, and a run may be interrupted anywhere."""
    values = torch.rand(23, generator=torch.Generator().manual_seed(3)).tolist()

    def means(cuts: tuple[int, ...]) -> dict[str, float]:
        log = MetricLog(torch.device("cpu"))
        for i, value in enumerate(values):
            log.add({"loss_a": torch.tensor(value), "skipped_a": torch.tensor(float(value > 0.5))})
            if i in cuts:
                state = log.state()
                log = MetricLog(torch.device("cpu"))
                log.load(state)
        return log.end_epoch()

    assert means(()) == means((0, 7, 8, 20))
    assert means(())["loss_a"] == pytest.approx(sum(values) / len(values), rel=1e-6)


def test_epoch_means_leave_out_what_was_not_finite() -> None:
    """A zero in its place would tell the dual-domain method of a collapse."""
    log = MetricLog(torch.device("cpu"))
    for value in (1.0, math.nan, 3.0, math.inf):
        log.add({"variance": torch.tensor(value), "never": torch.tensor(math.nan)})
    means = log.end_epoch()
    assert means["variance"] == 2.0 and math.isnan(means["never"])
