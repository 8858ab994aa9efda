"""Normalisations computed another way give torch's own numbers and gradients, in either memory order."""

import pytest
import torch
from torch import Tensor, nn

from models.blocks.norms import GroupNorm, InstanceNorm2d, by_instance

ORDERS = (torch.contiguous_format, torch.channels_last)
SHAPES = ((2, 8, 5, 7), (1, 8, 1, 4), (3, 8, 1, 3))


def image(shape: tuple[int, ...], order: torch.memory_format) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 3
    return values.contiguous(memory_format=order).requires_grad_()


def assert_equal(fast: nn.Module, plain: nn.Module, shape: tuple[int, ...], order: torch.memory_format) -> None:
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.uniform_(0.5, 2.0)
    fast.load_state_dict(plain.state_dict())
    one, other = image(shape, order), image(shape, order)
    weight = torch.linspace(-1, 1, one.numel(), dtype=torch.float64).view(shape)
    found, expected = fast(one), plain(other)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert found.is_contiguous(memory_format=order)
    for output in (found, expected):
        (weight * output.square()).sum().backward()
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-10, atol=1e-11)
    for mine, theirs in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm_is_torchs(shape: tuple[int, ...], order: torch.memory_format, affine: bool) -> None:
    fast, plain = (kind(8, affine=affine).double() for kind in (InstanceNorm2d, nn.InstanceNorm2d))
    assert_equal(fast, plain, shape, order)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("groups", [1, 4, 8])
def test_group_norm_is_torchs(shape: tuple[int, ...], order: torch.memory_format, groups: int) -> None:
    fast, plain = (kind(groups, 8).double() for kind in (GroupNorm, nn.GroupNorm))
    assert_equal(fast, plain, shape, order)


def test_a_single_pixel_is_refused_as_by_torch() -> None:
    """Its variance is zero and its norm would be zero whatever it holds."""
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        by_instance(torch.rand(2, 3, 1, 1))
