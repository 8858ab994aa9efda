"""Adversarial losses against independent formulas, and their effect on a critic and its generator."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from quell.losses.adversarial import Adversarial, Kind
from quell.losses.gradient_penalty import GradientPenalty
from quell.models.patch_discriminator import PatchDiscriminator

SCORES = [-2.0, -0.5, 0.0, 0.3, 1.0, 3.0]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


EXPECTED = {
    "lsgan": (
        mean([(s - 1) ** 2 for s in SCORES]),
        mean([s * s for s in SCORES]),
        mean([(s - 1) ** 2 for s in SCORES]),
    ),
    "vanilla": (
        mean([-math.log(1 / (1 + math.exp(-s))) for s in SCORES]),
        mean([-math.log(1 - 1 / (1 + math.exp(-s))) for s in SCORES]),
        mean([-math.log(1 / (1 + math.exp(-s))) for s in SCORES]),
    ),
    "wgan": (-mean(SCORES), mean(SCORES), -mean(SCORES)),
    "wgan_gp": (-mean(SCORES), mean(SCORES), -mean(SCORES)),
    "hinge": (mean([max(0, 1 - s) for s in SCORES]), mean([max(0, 1 + s) for s in SCORES]), -mean(SCORES)),
}


@pytest.mark.parametrize("kind", sorted(EXPECTED))
def test_values_equal_the_formulas(kind: Kind) -> None:
    scores = torch.tensor(SCORES, dtype=torch.float64).view(2, 1, 1, 3)
    loss = Adversarial(kind)
    values = loss(scores, real=True), loss(scores, real=False), loss.fool(scores)
    np.testing.assert_allclose([value.item() for value in values], EXPECTED[kind], rtol=1e-12)


@pytest.mark.parametrize("kind", sorted(EXPECTED))
def test_gradients_push_scores_in_the_right_direction(kind: Kind) -> None:
    loss = Adversarial(kind)
    scores = torch.tensor(SCORES[:4], dtype=torch.float64, requires_grad=True)
    for term, sign in ((lambda s: loss(s, real=True), -1), (lambda s: loss(s, real=False), 1), (loss.fool, -1)):
        assert torch.autograd.gradcheck(term, scores)
        (gradient,) = torch.autograd.grad(term(scores.clamp(0.1, 0.9)), scores)
        assert (gradient * sign >= 0).all(), "scores below 1 and above 0 must be pushed the right way"


class LinearCritic(nn.Module):
    """A critic whose slope is the norm of its weight, whatever the image."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images * self.weight).sum((1, 2, 3)).view(-1, 1, 1, 1)


def test_penalty_of_a_critic_with_known_slope() -> None:
    torch.manual_seed(0)
    weight = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    critic = LinearCritic(weight)
    real, fake = torch.rand(2, 3, 2, 4, 4, dtype=torch.float64)
    penalty = GradientPenalty()(critic, real, fake, torch.rand(3, dtype=torch.float64))
    norm = weight.norm()
    assert penalty.item() == pytest.approx(((norm - 1) ** 2).item(), rel=1e-9)
    penalty.backward()
    torch.testing.assert_close(critic.weight.grad, 2 * (norm - 1) * weight / norm)


def test_penalty_is_taken_between_the_images_and_has_no_gradient_into_them() -> None:
    class SquareCritic(nn.Module):
        """Slope 2 |x|, which tells at which x it was taken."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.square().sum((1, 2, 3)).view(-1, 1, 1, 1)

    real, fake = torch.full((1, 1, 2, 2), 3.0), torch.full((1, 1, 2, 2), 1.0, requires_grad=True)
    with torch.no_grad():  # the penalty needs gradients even when evaluation turns them off
        penalty = GradientPenalty()(SquareCritic(), real, fake, torch.tensor([0.25]))
    assert penalty.item() == pytest.approx((2 * 1.5 * 2 - 1) ** 2, rel=1e-6)
    assert fake.grad is None


def test_penalty_reaches_every_weight_of_a_real_critic() -> None:
    torch.manual_seed(0)
    critic = PatchDiscriminator(width=2, init_std=None).double()
    real, fake = torch.rand(2, 2, 1, 32, 32, dtype=torch.float64)
    share = torch.rand(2, dtype=torch.float64)
    GradientPenalty()(critic, real, fake, share).backward()
    weight = critic.layers[0].weight
    assert isinstance(weight, nn.Parameter) and weight.grad is not None
    direction = torch.randn_like(weight)
    step = 1e-6
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight.add_(sign * step * direction)
        values.append(GradientPenalty()(critic, real, fake, share).item())
        with torch.no_grad():
            weight.sub_(sign * step * direction)
    slope = (values[0] - values[1]) / (2 * step)
    assert (weight.grad * direction).sum().item() == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_penalty_is_the_same_under_half_precision(half: torch.dtype) -> None:
    torch.manual_seed(0)
    critic, real, fake, share = PatchDiscriminator(width=8), *torch.rand(2, 2, 1, 64, 64), torch.rand(2)
    expected = GradientPenalty()(critic, real, fake, share)
    with torch.autocast("cpu", half):
        assert torch.equal(GradientPenalty()(critic, real, fake, share), expected)


@pytest.mark.parametrize("kind", ["lsgan", "vanilla", "wgan_gp", "hinge"])
def test_critic_learns_to_distinguish_two_kinds_of_images(kind: Kind) -> None:
    torch.manual_seed(0)
    critic, loss = PatchDiscriminator(width=4), Adversarial(kind)
    optimizer = torch.optim.Adam(critic.parameters(), 1e-3)
    real, fake = torch.rand(4, 1, 32, 32), torch.rand(4, 1, 32, 32).cumsum(-1).cos()
    for _ in range(30):
        optimizer.zero_grad()
        total = loss(critic(real), real=True) + loss(critic(fake), real=False)
        if kind == "wgan_gp":
            total = total + 10 * GradientPenalty()(critic, real, fake, torch.rand(4))
        total.backward()
        optimizer.step()
    assert critic(real).mean() > critic(fake).mean() + 0.1
