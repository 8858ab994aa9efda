"""Content terms: what each makes of equal latents, of collapsed ones, and of latents of other slices."""

import math

import pytest
import torch
from torch import Tensor, nn

from configs.errors import ConfigError
from losses.content import Content
from losses.cosine_content import CosineContent
from losses.info_nce import InfoNce
from losses.predicted_content import PredictedContent
from losses.vicreg import Vicreg


def latents(seed: int = 0, n: int = 4) -> Tensor:
    return torch.randn(n, 6, 5, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def predicted() -> PredictedContent:
    torch.manual_seed(0)
    return PredictedContent(6).double()


def test_collapsed_latents_are_best_for_plain_distances_and_worst_for_terms_with_variance_or_negatives() -> None:
    alive, dead = latents(), latents()[:1].mean((2, 3), keepdim=True).expand(4, 6, 5, 5)
    for loss in (Content(), CosineContent()):
        assert float(loss(dead, dead)) == pytest.approx(0, abs=1e-12)
    assert float(InfoNce()(dead, dead)) == pytest.approx(math.log(4))
    assert float(InfoNce()(alive, alive)) < 0.01
    assert float(Vicreg()(dead, dead)) == pytest.approx(1 - 0.01)
    assert float(Vicreg()(2 * alive, 2 * alive)) < 0.05


def test_vicreg_is_its_formula() -> None:
    z = torch.tensor([[1.0, 2.0, 4.0], [1.0, 0.0, -1.0]]).T[:, :, None, None]
    other = z + 1
    variances, covariance = z.var(0).flatten(), -1.5
    spread = float((1 - (variances + 1e-4).sqrt()).clamp_min(0).mean())
    expected = 1 + 0.7 * spread + 0.3 * (2 * covariance**2 / 2)
    assert float(Vicreg(variance=0.7, covariance=0.3)(z, other)) == pytest.approx(expected, rel=1e-5)


def test_cosine_content_has_no_scale_and_the_plain_one_has() -> None:
    a, b = latents(1), latents(2)
    assert float(CosineContent()(a, 0.01 * b)) == pytest.approx(float(CosineContent()(a, b)))
    assert float(Content()(0.01 * a, 0.01 * b)) == pytest.approx(0.01 * float(Content()(a, b)))


def test_contrast_across_slices_wants_each_slice_beside_its_own() -> None:
    a = latents(1)
    near = a + 0.3 * latents(2)
    assert float(InfoNce()(a, near)) < 0.1 < math.log(4) < float(InfoNce()(a, near.roll(1, 0)))
    assert float(InfoNce()(a[:1], a[:1])) == 0
    with pytest.raises(ConfigError, match="temperature"):
        InfoNce(0)


def test_a_predicted_latent_is_held_still() -> None:
    loss = predicted()
    a, b = latents(1).requires_grad_(), latents(2).requires_grad_()
    towards = loss._towards(a, b)
    towards.backward()
    assert a.grad is not None and a.grad.abs().sum() > 0 and b.grad is None
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in loss.parameters())
    torch.testing.assert_close(loss(a, b), loss(b, a))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("loss", [Content(), CosineContent(), InfoNce(), Vicreg()])
def test_half_precision_around_a_term_does_not_change_it(loss: nn.Module, half: torch.dtype) -> None:
    """Products of features over many pixels lose their differences in bfloat16 and overflow in float16."""
    a = 10 * torch.randn(4, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    b = a + torch.randn(a.shape, generator=torch.Generator().manual_seed(1))
    expected = loss(a, b)
    with torch.autocast("cpu", half):
        assert torch.equal(loss(a, b), expected)


@pytest.mark.parametrize("loss", [CosineContent(), InfoNce(), Vicreg()])
def test_gradients(loss: nn.Module) -> None:
    a, b = latents(1, 2)[:, :3, :2, :2].requires_grad_(), latents(2, 2)[:, :3, :2, :2].requires_grad_()
    assert torch.autograd.gradcheck(loss, (a, b))
