"""The separation loss against its formula, its bound, and its gradient."""

import math
from typing import Literal

import pytest
import torch

from quell.configs.errors import ConfigError
from quell.losses.separation import Separation

Form = Literal["linear", "exp"]


@pytest.mark.parametrize("bound", [0.1, 1.0, 4.0])
def test_values_equal_the_formulas(bound: float) -> None:
    first = torch.tensor([0.0, 0.2, 0.4, 0.9], dtype=torch.float64).view(1, 1, 2, 2)
    second = torch.tensor([0.5, 0.2, 0.1, 0.1], dtype=torch.float64).view(1, 1, 2, 2)
    distance = (0.5 + 0.0 + 0.3 + 0.8) / 4
    assert Separation("linear", bound)(first, second).item() == pytest.approx(-min(distance, bound))
    expected = bound * (math.exp(-distance / bound) - 1)
    assert Separation("exp", bound)(first, second).item() == pytest.approx(expected)


@pytest.mark.parametrize("form", ["linear", "exp"])
def test_loss_never_falls_below_the_bound(form: Form) -> None:
    first, second = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 200.0, requires_grad=True)
    loss = Separation(form, 0.5)(first, second)
    assert loss.item() == pytest.approx(-0.5)
    loss.backward()
    assert second.grad is not None and second.grad.abs().max() == 0


@pytest.mark.parametrize("form", ["linear", "exp"])
def test_gradient_matches_finite_differences(form: Form) -> None:
    torch.manual_seed(0)
    first, second = torch.rand(2, 1, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Separation(form, 2.0), (first, second))


def test_bound_of_zero_is_rejected() -> None:
    with pytest.raises(ConfigError, match="positive"):
        Separation(bound=0.0)
