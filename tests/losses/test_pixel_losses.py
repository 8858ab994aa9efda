"""L1, L2, Charbonnier, edge and content losses against independent numpy computations, and their gradients."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import correlate
from torch import Tensor, nn

from quell.configs.errors import ConfigError
from quell.losses.charbonnier import Charbonnier
from quell.losses.content import Content
from quell.losses.edge import Edge
from quell.losses.l1 import L1
from quell.losses.l2 import L2
from tests.support.images import normal_image

Array = NDArray[np.inexact]


def pair(dtype: torch.dtype, channels: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    restored, target = (torch.randn(2, channels, 6, 7, generator=generator, dtype=dtype) for _ in range(2))
    return restored, target


def as_complex(x: Tensor) -> Array:
    values = x.numpy()
    half = values.shape[1] // 2
    return np.asarray(values[:, :half] + 1j * values[:, half:])


def sobel(image: Array) -> Array:
    kernel = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]], dtype=float)[None, None]
    gx, gy = correlate(image, kernel), correlate(image, kernel.swapaxes(-1, -2))
    return np.sqrt(gx**2 + gy**2 + 1e-12)[..., 1:-1, 1:-1]


def edge(x: Array, y: Array) -> float:
    return float(np.mean(np.abs(sobel(np.abs(x)) - sobel(np.abs(y)))))


FORMULAS: list[tuple[nn.Module, Callable[[Array, Array], float]]] = [
    (L1(), lambda x, y: float(np.mean(np.abs(x - y)))),
    (L2(), lambda x, y: float(np.mean(np.abs(x - y) ** 2))),
    (Charbonnier(), lambda x, y: float(np.mean(np.sqrt(np.abs(x - y) ** 2 + 1e-6)))),
    (Charbonnier(eps=0.5), lambda x, y: float(np.mean(np.sqrt(np.abs(x - y) ** 2 + 0.25)))),
    (Edge(), edge),
    (Content(), lambda x, y: float(np.mean(np.abs(x - y)))),
]


@pytest.mark.parametrize(("loss", "formula"), FORMULAS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_loss_equals_its_formula(loss: nn.Module, formula: Callable[[Array, Array], float], dtype: torch.dtype) -> None:
    restored, target = pair(dtype)
    value = loss(restored, target)
    assert value.shape == ()
    assert value.item() == pytest.approx(formula(restored.numpy(), target.numpy()))


@pytest.mark.parametrize(("loss", "formula"), [(L1(modulus=True), FORMULAS[0][1]), (Edge(modulus=True), edge)])
def test_modulus_of_channels_equals_that_of_the_complex_image(
    loss: nn.Module, formula: Callable[[Array, Array], float]
) -> None:
    restored, target = pair(torch.float64, channels=4)
    expected = formula(as_complex(restored), as_complex(target))
    assert loss(restored, target).item() == pytest.approx(expected)
    complex_loss = loss(torch.from_numpy(as_complex(restored)), torch.from_numpy(as_complex(target)))
    assert complex_loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("loss", [*(loss for loss, _ in FORMULAS), L1(modulus=True), Edge(modulus=True)])
def test_gradient_matches_finite_differences(loss: nn.Module, dtype: torch.dtype) -> None:
    restored, target = pair(dtype)
    assert torch.autograd.gradcheck(loss, (restored.requires_grad_(), target.requires_grad_()))


@pytest.mark.parametrize("loss", [L1(modulus=True), Edge(modulus=True), Edge(), Charbonnier(), L1(), L2(), Content()])
def test_gradient_of_equal_flat_images_is_finite(loss: nn.Module) -> None:
    zero = torch.zeros(1, 2, 5, 5, requires_grad=True)
    loss(zero, torch.zeros(1, 2, 5, 5)).backward()
    assert zero.grad is not None and torch.isfinite(zero.grad).all()


def test_half_precision_images_are_compared_in_float32() -> None:
    restored, target = (x.to(torch.bfloat16) for x in pair(torch.float32))
    for loss in (L1(), L1(modulus=True), L2(), Charbonnier(), Edge(modulus=True), Content()):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(restored, target)
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(loss(restored.double(), target.double()).item(), rel=1e-5)


def test_complex_l1_of_pure_noise_is_the_mean_of_a_rayleigh_distribution() -> None:
    noise = 0.3 * normal_image(1, 2, 500, 500)
    floor = L1(modulus=True)(noise, torch.zeros_like(noise)).item()
    assert floor == pytest.approx(0.3 * math.sqrt(math.pi / 2), rel=0.01)


def test_unsuitable_images_and_arguments_are_rejected() -> None:
    odd = torch.zeros(1, 3, 4, 4)
    with pytest.raises(ConfigError, match="even number"):
        L1(modulus=True)(odd, odd)
    with pytest.raises(ConfigError, match="positive"):
        Charbonnier(eps=0.0)
    with pytest.raises(ConfigError, match="edge loss needs images of at least 3x3 px, got 2x5"):
        Edge()(torch.zeros(1, 1, 2, 5), torch.zeros(1, 1, 2, 5))
    with pytest.raises(AssertionError):
        L1()(torch.zeros(2, 1, 4, 4), torch.zeros(1, 1, 4, 4))
