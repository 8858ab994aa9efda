"""Weights of losses: the values of each strategy, what is learned, and the one-hot end of learned softmax weights."""

import math

import pytest
import torch
from torch import Tensor

from quell.losses.common.weighting import Strategy, Weighting


def terms(*values: float) -> dict[str, Tensor]:
    return {name: torch.tensor(value) for name, value in zip("abcd", values, strict=False)}


def train(weighting: Weighting, values: dict[str, Tensor], steps: int) -> None:
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        weighting(values)[0].backward()
        optimizer.step()


def test_fixed_is_the_weighted_sum() -> None:
    weighting = Weighting("fixed", {"a": 0.03, "b": 0.025, "c": 0.02, "d": 0.01})
    total, parts = weighting(terms(1, 2, 3, 4))
    assert float(total) == pytest.approx(0.03 + 0.05 + 0.06 + 0.04)
    assert {name: float(part) for name, part in parts.items()} == pytest.approx(
        {"weight_a": 0.03, "weight_b": 0.025, "weight_c": 0.02, "weight_d": 0.01}
    )
    assert list(weighting.parameters()) == []


def test_random_softmax_keeps_its_weights_in_the_range_of_the_published_scripts() -> None:
    torch.manual_seed(0)
    weighting = Weighting("random_softmax", {"a": 1, "b": 1, "c": 1, "d": 1})
    weights = weighting.current()
    assert float(weights.sum()) == pytest.approx(1)
    low, high = 1 / (1 + 3 * math.e), math.e / (math.e + 3)
    assert low <= float(weights.min()) < float(weights.max()) <= high
    restored = Weighting("random_softmax", {"a": 1, "b": 1, "c": 1, "d": 1})
    assert not torch.equal(restored.current(), weights)
    restored.load_state_dict(weighting.state_dict())
    assert torch.equal(restored.current(), weights)
    assert list(weighting.parameters()) == []


def test_uncertainty_starts_at_its_weights_and_ends_with_equal_contributions() -> None:
    weighting = Weighting("uncertainty", {"a": 1.0, "b": 0.5})
    total, _ = weighting(terms(0.3, 0.8))
    assert float(total.detach()) == pytest.approx(0.3 + 0.4 - math.log(0.5))
    train(weighting, terms(0.02, 3.0), 1500)
    assert torch.allclose(weighting.current(), torch.tensor([1 / 0.02, 1 / 3.0]), rtol=1e-2)


def test_learned_softmax_goes_one_hot_to_the_smallest_loss_and_warns() -> None:
    weighting = Weighting("softmax", {"a": 2, "b": 1, "c": 1, "d": 4})
    assert torch.allclose(weighting.current(), torch.tensor([0.25, 0.125, 0.125, 0.5]))
    means = {name: float(value) for name, value in weighting(terms(0.5, 0.4, 0.1, 0.3))[1].items()}
    assert weighting.one_hot_warning(means) is None
    train(weighting, terms(0.5, 0.4, 0.1, 0.3), 1500)
    means = {name: float(value) for name, value in weighting(terms(0.5, 0.4, 0.1, 0.3))[1].items()}
    assert means["weight_c"] > 0.99
    assert "gone to c" in str(weighting.one_hot_warning(means))


@pytest.mark.parametrize("strategy", ["fixed", "uncertainty", "random_softmax"])
def test_other_strategies_never_warn(strategy: Strategy) -> None:
    assert Weighting(strategy, {"a": 1, "b": 1}).one_hot_warning({"weight_a": 1.0, "weight_b": 0.0}) is None


@pytest.mark.parametrize("strategy", ["fixed", "uncertainty", "softmax", "random_softmax"])
def test_gradient_of_each_strategy(strategy: Strategy) -> None:
    weighting = Weighting(strategy, {"a": 0.7, "b": 2.0}).double()
    values = torch.tensor([0.4, 1.3], dtype=torch.float64, requires_grad=True)
    inputs = [values, *weighting.parameters()]

    def total(values: Tensor, *_: Tensor) -> Tensor:
        return weighting({"a": values[0], "b": values[1]})[0]

    assert torch.autograd.gradcheck(total, inputs)
