"""Content losses of equal latents, of collapsed ones, and of latents of different slices."""

import math

import pytest
import torch
from torch import Tensor, nn

from quell.configs.errors import ConfigError
from quell.losses.content import Content
from quell.losses.cosine_content import CosineContent
from quell.losses.info_nce import InfoNce
from quell.losses.predicted_content import PredictedContent
from quell.losses.vicreg import Vicreg
from tests.support.images import normal_image


def latents(seed: int = 0, count: int = 4) -> Tensor:
    return normal_image(count, 6, 5, 5, seed=seed, dtype=torch.float64)


def predicted_content() -> PredictedContent:
    torch.manual_seed(0)
    return PredictedContent(6).double()


def test_collapsed_latents_are_best_for_plain_distances_and_worst_with_variance_or_negatives() -> None:
    varied, collapsed = latents(), latents()[:1].mean((2, 3), keepdim=True).expand(4, 6, 5, 5)
    for loss in (Content(), CosineContent()):
        assert float(loss(collapsed, collapsed)) == pytest.approx(0, abs=1e-12)
    assert float(InfoNce()(collapsed, collapsed)) == pytest.approx(math.log(4))
    assert float(InfoNce()(varied, varied)) < 0.01
    assert float(Vicreg()(collapsed, collapsed)) == pytest.approx(1 - 0.01)
    assert float(Vicreg()(2 * varied, 2 * varied)) < 0.05


def test_vicreg_equals_its_formula() -> None:
    z = torch.tensor([[1.0, 2.0, 4.0], [1.0, 0.0, -1.0]]).T[:, :, None, None]
    shifted = z + 1
    variances, covariance = z.var(0).flatten(), -1.5
    variance_term = float((1 - (variances + 1e-4).sqrt()).clamp_min(0).mean())
    expected = 1 + 0.7 * variance_term + 0.3 * (2 * covariance**2 / 2)
    assert float(Vicreg(variance=0.7, covariance=0.3)(z, shifted)) == pytest.approx(expected, rel=1e-5)


def test_cosine_content_ignores_the_scale_of_latents_and_content_does_not() -> None:
    a, b = latents(1), latents(2)
    assert float(CosineContent()(a, 0.01 * b)) == pytest.approx(float(CosineContent()(a, b)))
    assert float(Content()(0.01 * a, 0.01 * b)) == pytest.approx(0.01 * float(Content()(a, b)))


def test_info_nce_is_low_if_each_latent_is_nearest_to_its_own_slice() -> None:
    a = latents(1)
    near = a + 0.3 * latents(2)
    assert float(InfoNce()(a, near)) < 0.1 < math.log(4) < float(InfoNce()(a, near.roll(1, 0)))
    assert float(InfoNce()(a[:1], a[:1])) == 0
    with pytest.raises(ConfigError, match="temperature"):
        InfoNce(0)


def test_predicted_latent_receives_no_gradient() -> None:
    loss = predicted_content()
    a, b = latents(1).requires_grad_(), latents(2).requires_grad_()
    loss._prediction_error(a, b).backward()
    assert a.grad is not None and a.grad.abs().sum() > 0 and b.grad is None
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in loss.parameters())
    torch.testing.assert_close(loss(a, b), loss(b, a))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("loss", [Content(), CosineContent(), InfoNce(), Vicreg()])
def test_loss_is_the_same_under_half_precision(loss: nn.Module, half: torch.dtype) -> None:
    """Products of features over many pixels lose their differences in bfloat16 and overflow in float16."""
    a = 10 * normal_image(4, 16, 32, 32, seed=0)
    b = a + normal_image(*a.shape, seed=1)
    expected = loss(a, b)
    with torch.autocast("cpu", half):
        assert torch.equal(loss(a, b), expected)


@pytest.mark.parametrize("loss", [CosineContent(), InfoNce(), Vicreg()])
def test_gradients_match_finite_differences(loss: nn.Module) -> None:
    a, b = latents(1, 2)[:, :3, :2, :2].requires_grad_(), latents(2, 2)[:, :3, :2, :2].requires_grad_()
    assert torch.autograd.gradcheck(loss, (a, b))
