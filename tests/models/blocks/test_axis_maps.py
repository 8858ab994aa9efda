"""Gathered reflection padding and upsampling equal torch's, forwards, backwards, and backwards again."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from quell.models.blocks import axis_maps
from quell.models.blocks.axis_maps import ReflectionConv2d, doubling, gather, reflection
from tests.support.images import normal_image

CPU = torch.device("cpu")


def doubled(x: Tensor) -> Tensor:
    """What a GPU computes where algorithms have to be deterministic."""
    return gather(x, *(doubling(size, CPU) for size in x.shape[-2:]))


def reflected(x: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """What a GPU computes where algorithms have to be deterministic."""
    height, width = x.shape[-2:]
    return gather(x, reflection(height, top, bottom, CPU), reflection(width, left, right, CPU))


def gradient(y: Tensor, x: Tensor) -> Tensor:
    """Of a sum of the result with fixed weights."""
    weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float32).view(y.shape)
    (result,) = torch.autograd.grad((y * weights).real.sum(), x)
    return result


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3), (7, 8), (33, 64)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_upsampling_equals_torchs(size: tuple[int, int], memory_format: torch.memory_format) -> None:
    x = normal_image(2, 3, *size).to(memory_format=memory_format).requires_grad_()
    expected = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
    found = doubled(x)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient(found, x), gradient(expected, x), rtol=1e-5, atol=1e-6)
    assert size == (1, 1) or found.is_contiguous(memory_format=memory_format)  # one pixel has no order


@pytest.mark.parametrize("px", [(0, 0, 1, 1), (1, 1, 1, 1), (3, 3, 3, 3), (0, 1, 1, 0), (5, 2, 0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_reflection_equals_torchs(px: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    x = normal_image(2, 3, 6, 7, dtype=dtype).requires_grad_()
    expected, found = functional.pad(x, px, mode="reflect"), reflected(x, *px)
    assert torch.equal(found, expected)
    torch.testing.assert_close(gradient(found, x), gradient(expected, x), rtol=1e-6, atol=1e-6)


def test_an_image_is_reflected_to_and_fro_as_often_as_needed() -> None:
    x = torch.tensor([[[[0.0, 1.0, 2.0]]]], requires_grad=True)
    found = gather(x, None, reflection(3, 0, 5, CPU))
    assert found.flatten().tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    (counts,) = torch.autograd.grad(found.sum(), x)
    assert counts.flatten().tolist() == [2, 4, 2]


@pytest.mark.parametrize("mapped", [doubled, lambda x: reflected(x, 1, 2, 2, 1)])
def test_the_gradient_is_itself_differentiable(mapped: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(mapped, x) and torch.autograd.gradgradcheck(mapped, x)


def test_half_precision_is_rounded_once_for_each_axis() -> None:
    x = normal_image(1, 2, 9, 9).bfloat16()
    expected = functional.interpolate(x.float(), scale_factor=2, mode="bilinear", align_corners=True).bfloat16()
    torch.testing.assert_close(doubled(x), expected, rtol=2**-7, atol=2**-8)


def test_on_cpu_torchs_own_kernels_are_used() -> None:
    x = normal_image(1, 2, 8, 8)
    with torch.autograd.profiler.profile() as profile:
        axis_maps.upsample_bilinear(x)
        axis_maps.pad_by_reflection(x, (1, 1, 1, 1))
    names = {event.name for event in profile.function_events}
    assert {"aten::upsample_bilinear2d", "aten::reflection_pad2d"} <= names and "aten::index_select" not in names


def test_a_reflection_convolution_is_torchs_with_the_same_weights() -> None:
    own = ReflectionConv2d(3, 4, 5, stride=2, padding=2)
    torchs = nn.Conv2d(3, 4, 5, 2, 2, padding_mode="reflect")
    torchs.load_state_dict(own.state_dict())
    x = normal_image(2, 3, 9, 11)
    assert torch.equal(own(x), torchs(x))
