"""Neighbor2Neighbor: right for independent noise only, its regularisation and its ramp."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from quell.configs.fields import FieldSpec
from quell.pipelines.base import PhaseOutput
from quell.pipelines.neighbor2neighbor import Neighbor2Neighbor

NETWORK = {"name": "dncnn", "depth": 3, "width": 4}


class Gain(nn.Module):
    """Multiplication by a number."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, image_NCHW: Tensor) -> Tensor:
        return self.gain * image_NCHW


def method(network: nn.Module | None = None, **settings: Any) -> Neighbor2Neighbor:
    config = Neighbor2Neighbor.Config(name="neighbor2neighbor", network=NETWORK, **settings)
    made = Neighbor2Neighbor(config, {"noisy": FieldSpec(1)})
    if network is not None:
        made.network = network
    return made


def normals(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def measured(made: Neighbor2Neighbor, batch: dict[str, Tensor]) -> PhaseOutput:
    return made.loss("restorer", batch, {})


def cells(correlation: float) -> dict[str, Tensor]:
    """Cells of 2 x 2 equal clean pixels of variance 1, with noise of variance 1/4 and this correlation in a cell."""
    clean = normals(0, 4, 1, 100, 100).repeat_interleave(2, -2).repeat_interleave(2, -1)
    shared = normals(1, 4, 1, 100, 100).repeat_interleave(2, -2).repeat_interleave(2, -1)
    noise = correlation**0.5 * shared + (1 - correlation) ** 0.5 * normals(2, 4, 1, 200, 200)
    return {"noisy": clean + 0.5 * noise, "neighbours": normals(3, 4, 1, 200, 200)}


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_the_minimiser_is_right_for_independent_noise_and_keeps_correlated_noise(correlation: float) -> None:
    batch = cells(correlation)
    low, middle, high = (float(measured(method(Gain(gain), regularisation=0), batch).loss) for gain in (0.0, 0.5, 1.0))
    minimiser = 0.5 - 0.25 * (high - low) / (low - 2 * middle + high)  # of the parabola through the three
    assert minimiser == pytest.approx((1 + 0.25 * correlation) / 1.25, abs=0.02)


def test_the_regularisation_vanishes_for_the_identity_and_counts_gamma_times() -> None:
    batch = cells(0.0)
    outputs = [measured(method(Gain(1.0), regularisation=gamma), batch) for gamma in (0.0, 2.0)]
    assert float(outputs[1].scalars["regularisation"]) == pytest.approx(0, abs=1e-10)
    assert float(outputs[0].loss) == pytest.approx(float(outputs[1].loss)) == pytest.approx(0.5, rel=0.02)
    shrunk = measured(method(Gain(0.5), regularisation=2.0), batch)
    parts = shrunk.scalars
    assert float(shrunk.loss) == pytest.approx(float(parts["l2"] + 2 * parts["regularisation"]))
    # g1 y / 2 - g2 y - (g1 y - g2 y) / 2 = -g2 y / 2
    assert float(parts["regularisation"]) == pytest.approx(1.25 / 4, rel=0.03)


def test_the_regularisation_ramps_up() -> None:
    ramped = method(regularisation=2.0, ramp_steps=10)
    gammas = []
    for step in (0, 4, 9, 50):
        ramped.on_step_start(step, 0.0)
        gammas.append(ramped.gamma)
    assert gammas == pytest.approx([0.2, 1.0, 2.0, 2.0])
    at_once = method(regularisation=2.0)
    at_once.on_step_start(0, 0.0)
    assert at_once.gamma == 2.0


def test_images_of_odd_sizes_and_several_channels_train() -> None:
    config = Neighbor2Neighbor.Config(name="neighbor2neighbor", network=NETWORK)
    made = Neighbor2Neighbor(config, {"noisy": FieldSpec(2, "ri")})
    batch = {"noisy": normals(0, 2, 2, 17, 19), "neighbours": normals(1, 2, 2, 17, 19)}
    made.loss("restorer", batch, {}).loss.backward()
    assert made.restore(batch)["restored"].shape == (2, 2, 17, 19)


def test_correlated_noise_is_warned_of_before_training() -> None:
    made = method()
    batch = {"noisy": 0.5 + 0.1 * normals(4, 4, 1, 128, 130), "noisy_scale": torch.ones(4, 1, 1, 1)}
    made.calibrate([batch])
    assert not made.warnings()
    batch["noisy"] = 0.5 + functional.avg_pool2d(batch["noisy"] - 0.5, (1, 3), 1) * 3**0.5
    made.calibrate([batch])
    (sentence,) = made.warnings()
    assert "correlation of 0.6" in sentence and "neighbor2neighbor assumes" in sentence and "use r2r" in sentence
    assert made.noise_model() is made.found
