"""Optimizer steps: skipped when the gradient is not finite, clipped, and with settings of their own per phase."""

import math
from typing import Any

import pytest
import torch

from quell.configs.schema import OptimizerConfig
from quell.launch.training import optimizers

NO_SCALER = torch.amp.GradScaler("cpu", enabled=False)


def set_gradient(parameter: torch.nn.Parameter, value: float) -> None:
    parameter.grad = torch.full_like(parameter, value)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "rmsprop"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_a_step_with_a_nonfinite_gradient_leaves_weights_and_moments_unchanged(name: str, dtype: torch.dtype) -> None:
    if name == "rmsprop" and dtype.is_complex:
        dtype = torch.float64  # torch's RMSprop supports complex parameters only without foreach
    config = OptimizerConfig.model_validate({"name": name, "lr": 0.1})
    runs = []
    for gradients in ((0.5, float("nan"), float("inf"), 0.25), (0.5, 0.25)):
        parameter = torch.nn.Parameter(torch.ones(3, dtype=dtype))
        optimizer = optimizers.make(config, "restorer", [parameter])
        skipped = 0.0
        for value in gradients:
            set_gradient(parameter, value)
            skipped += float(optimizers.apply(optimizer, [parameter], clip=1.0, scaler=NO_SCALER)[1])
        runs.append(parameter.detach().clone())
        assert skipped == len(gradients) - 2
    assert torch.equal(runs[0], runs[1])
    assert torch.isfinite(torch.view_as_real(runs[0]) if dtype.is_complex else runs[0]).all()


@pytest.mark.parametrize("enabled", [False, True], ids=["skipped by the flag", "skipped by the scaler"])
def test_sgd_whose_first_step_is_skipped_starts_from_no_momentum(
    enabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first step in float16 usually is; fused kernels would leave what they allocated for momenta unwritten."""
    with monkeypatch.context() as patched:
        patched.setattr(torch, "empty_like", lambda like, **settings: torch.full_like(like, math.nan, **settings))
        scaler = torch.amp.GradScaler("cpu", enabled=enabled, init_scale=2.0, growth_interval=1000)
        results = []
        for gradients in ((math.inf, 0.5, 0.25), (0.5, 0.25)):
            parameter = torch.nn.Parameter(torch.ones(1000))
            config = OptimizerConfig.model_validate({"name": "sgd", "lr": 0.1, "betas": [0.9, 0.9]})
            optimizer = optimizers.make(config, "restorer", [parameter])
            for value in gradients:
                set_gradient(parameter, value * float(scaler.scale(torch.ones(()))))
                optimizers.apply(optimizer, [parameter], clip=None, scaler=scaler)
                scaler.update()
            results.append(parameter.detach().clone())
    assert torch.equal(results[0], results[1])


@pytest.mark.parametrize("name", ["sgd", "rmsprop"])
def test_clipping_scales_the_gradient_and_returns_its_norm_before(name: str) -> None:
    """Fused optimizers clip while they step, others before."""
    parameter = torch.nn.Parameter(torch.zeros(4))
    optimizer = optimizers.make(OptimizerConfig.model_validate({"name": name, "lr": 1.0}), "x", [parameter])
    set_gradient(parameter, 3.0)
    norm, bad = optimizers.apply(optimizer, [parameter], clip=1.0, scaler=NO_SCALER)
    assert float(norm) == pytest.approx(6.0) and float(bad) == 0
    if name == "rmsprop":
        assert parameter.grad is not None and float(parameter.grad.norm()) == pytest.approx(1.0, rel=1e-5)


def test_a_clipped_step_is_as_long_as_the_clipped_gradient() -> None:
    parameter = torch.nn.Parameter(torch.zeros(4))
    optimizer = optimizers.make(OptimizerConfig(name="sgd", lr=1.0, betas=(0.0, 0.9)), "x", [parameter])
    set_gradient(parameter, 3.0)
    norm, bad = optimizers.apply(optimizer, [parameter], clip=1.0, scaler=NO_SCALER)
    assert float(norm) == pytest.approx(6.0) and float(bad) == 0
    assert float(parameter.detach().norm()) == pytest.approx(1.0, rel=1e-5)


def test_a_phase_can_override_settings_of_the_optimizer() -> None:
    config = OptimizerConfig.model_validate({"lr": 1e-3, "phases": {"critic": {"lr": 2e-5, "betas": [0.5, 0.9]}}})
    parameter = torch.nn.Parameter(torch.zeros(1))
    assert optimizers.make(config, "generator", [parameter]).param_groups[0]["lr"] == 1e-3
    group = optimizers.make(config, "critic", [parameter]).param_groups[0]
    assert (group["lr"], tuple(group["betas"])) == (2e-5, (0.5, 0.9))


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("adamw", torch.optim.AdamW, {"betas": (0.8, 0.9), "fused": True}),
        ("adam", torch.optim.Adam, {"betas": (0.8, 0.9), "fused": True}),
        ("sgd", torch.optim.SGD, {"momentum": 0.8, "fused": True}),
        ("rmsprop", torch.optim.RMSprop, {}),
    ],
)
def test_optimizers_are_torchs_own_with_their_state(name: str, kind: Any, settings: dict[str, Any]) -> None:
    config = OptimizerConfig.model_validate({"name": name, "lr": 0.1, "weight_decay": 0.1, "betas": [0.8, 0.9]})
    ours, theirs = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    optimizer = optimizers.make(config, "x", [ours])
    expected = kind([theirs], lr=0.1, weight_decay=0.1, **settings)
    for value in (0.5, -0.25, 2.0):
        for parameter in (ours, theirs):
            set_gradient(parameter, value)
        optimizers.apply(optimizer, [ours], clip=None, scaler=NO_SCALER)
        expected.step()
        restored = optimizers.make(config, "x", [ours])  # a step follows on what a checkpoint keeps
        restored.load_state_dict(optimizer.state_dict())
        optimizer = restored
    assert isinstance(optimizer, kind) and torch.equal(ours, theirs)
    saved, wanted = optimizer.state_dict()["state"][0], expected.state_dict()["state"][0]
    assert saved.keys() == wanted.keys()
    assert all(torch.equal(torch.as_tensor(saved[key]), torch.as_tensor(wanted[key])) for key in saved)


@pytest.mark.parametrize("name", ["adamw", "rmsprop"])
@pytest.mark.parametrize("scale", [None, 1024.0])
def test_gradients_are_shown_unscaled_and_before_they_are_clipped(name: str, scale: float | None) -> None:
    scaler = torch.amp.GradScaler("cpu", enabled=scale is not None, init_scale=scale or 1.0)
    parameters = [torch.nn.Parameter(torch.ones(4)) for _ in range(2)]
    optimizer = optimizers.make(OptimizerConfig.model_validate({"name": name}), "restorer", parameters)
    for parameter, value in zip(parameters, (1.0, 2.0), strict=True):
        set_gradient(parameter, value * float(scaler.scale(torch.ones(()))))
    seen: list[float] = []
    norm, _ = optimizers.apply(
        optimizer,
        parameters,
        clip=0.1,
        scaler=scaler,
        look=lambda: seen.extend(float(optimizers.gradient_norm([parameter])) for parameter in parameters),
    )
    assert seen == [2.0, 4.0] and float(norm) == pytest.approx(math.hypot(*seen))
