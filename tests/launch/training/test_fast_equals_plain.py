"""Every optimisation of the training step gives the result of the plain implementation."""

import copy
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from quell.configs.fields import FieldSpec
from quell.configs.schema import OptimizerConfig
from quell.launch.training import optimizers
from quell.launch.training.ema import Average
from quell.launch.training.metric_log import MetricLog
from quell.launch.training.phases import Phase, train_step
from quell.pipelines.base import Batch
from quell.pipelines.tcfl import Tcfl
from tests.support.images import uniform_batch

NO_SCALER = torch.amp.GradScaler("cpu", enabled=False)
FIELDS = ("noisy", "noisy_other", "unpaired_clean")
GENERATOR = {"name": "dncnn", "depth": 4, "width": 6, "residual": False, "norm": "instance"}
CRITIC = {"name": "patch_discriminator", "width": 4}


def tcfl(**options: Any) -> Tcfl:
    torch.manual_seed(0)
    config = Tcfl.Config(name="tcfl", generator=GENERATOR, critic=CRITIC, pool_size=0, **options)
    return Tcfl(config, dict.fromkeys(FIELDS, FieldSpec(1))).double()


def batches(count: int) -> list[Batch]:
    return [uniform_batch(*FIELDS, side=40, seed=seed) for seed in range(count)]


def plain_step(pipeline: Tcfl, adams: dict[str, torch.optim.AdamW], batch: Batch, clip: float) -> None:
    """One step with no frozen network, no fused operation, six generator passes, and torch's gradient clipping."""
    carry: dict[str, torch.Tensor] = {}
    for name, optimizer in adams.items():
        pipeline.zero_grad()
        output = pipeline.loss(name, batch, carry)
        carry |= output.carry
        output.loss.backward()
        nn.utils.clip_grad_norm_(pipeline.trained_parameters(name), clip)
        optimizer.step()


def test_a_step_of_two_phases_equals_the_plain_step() -> None:
    """Three steps in float64, with batched passes, frozen networks, fused AdamW, and skipping decided on the device."""
    fast, plain = tcfl(batch_passes=True), tcfl(batch_passes=False)
    settings = OptimizerConfig(lr=1e-2)
    tracking = SimpleNamespace(gradients=False)
    config: Any = SimpleNamespace(
        optimizer=settings, loop=SimpleNamespace(clip_norm=0.5, compile=False), tracking=tracking
    )
    phases = [Phase(Accelerator(cpu=True), fast, name, config) for name in fast.phases]
    adams = {
        name: torch.optim.AdamW(plain.trained_parameters(name), lr=1e-2, weight_decay=0.0, foreach=False)
        for name in plain.phases
    }
    for step, batch in enumerate(batches(3)):
        train_step(phases, fast, step, [batch], NO_SCALER)
        plain_step(plain, adams, batch, 0.5)
    for (name, actual), expected in zip(fast.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.parametrize("value", [0.0, 1.5, -2e38, 1e-40, float("inf"), float("-inf"), float("nan")])
def test_a_gradient_counts_as_bad_exactly_when_it_is_not_finite(value: float) -> None:
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.full((1,), value)
    optimizer = optimizers.make(OptimizerConfig(lr=0.1), "restorer", [parameter])
    _, bad = optimizers.apply(optimizer, [parameter], clip=None, scaler=NO_SCALER)
    assert bool(bad) == (not bool(torch.isfinite(torch.tensor(abs(value)))))


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("clip", [0.5, 1e6])
def test_clipping_inside_the_fused_step_equals_torchs_clipping(name: str, clip: float) -> None:
    values = torch.randn(2, 40, generator=torch.Generator().manual_seed(0))
    fast, plain = nn.Parameter(values[0].clone()), nn.Parameter(values[0].clone())
    settings = OptimizerConfig.model_validate({"name": name, "lr": 0.1})
    fused, reference = (optimizers.make(settings, "restorer", [parameter]) for parameter in (fast, plain))
    for scale in (1.0, 3.0):
        fast.grad, plain.grad = scale * values[1], scale * values[1]
        norm, _ = optimizers.apply(fused, [fast], clip=clip, scaler=NO_SCALER)
        assert float(norm) == float(nn.utils.clip_grad_norm_([plain], clip))
        reference.step()
    torch.testing.assert_close(fast, plain, rtol=1e-6, atol=1e-7)


def test_the_moving_average_follows_its_formula() -> None:
    pipeline = tcfl()
    counter = torch.zeros((), dtype=torch.long)
    pipeline.register_buffer("counter", counter)
    average = Average(pipeline, 0.9)
    expected = copy.deepcopy(average.state)
    for step in range(4):
        with torch.no_grad():
            counter += 1
            for parameter in pipeline.parameters():
                parameter.add_(torch.rand_like(parameter))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in pipeline.checkpoint_state().items():
            averaged = value.is_floating_point()
            expected[name] = decay * expected[name] + (1 - decay) * value if averaged else value.clone()
    for name, value in average.state.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)


def test_epoch_means_do_not_depend_on_where_a_run_was_interrupted() -> None:
    """They agree bit for bit, since a method may adapt its loss weights to them."""
    values = torch.rand(23, generator=torch.Generator().manual_seed(3)).tolist()

    def means(interruptions: tuple[int, ...]) -> dict[str, float]:
        log = MetricLog(torch.device("cpu"))
        for i, value in enumerate(values):
            log.add({"loss_a": torch.tensor(value), "skipped_a": torch.tensor(float(value > 0.5))})
            if i in interruptions:
                state = log.state()
                log = MetricLog(torch.device("cpu"))
                log.load(state)
        return log.end_epoch()

    assert means(()) == means((0, 7, 8, 20))
    assert means(())["loss_a"] == pytest.approx(sum(values) / len(values), rel=1e-6)


def test_epoch_means_ignore_nonfinite_values() -> None:
    """Zeros in their place would look like a collapse to the dual-domain method."""
    log = MetricLog(torch.device("cpu"))
    for value in (1.0, math.nan, 3.0, math.inf):
        log.add({"variance": torch.tensor(value), "never": torch.tensor(math.nan)})
    means = log.end_epoch()
    assert means["variance"] == 2.0 and math.isnan(means["never"])
