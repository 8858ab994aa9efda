"""The faster normalisations give the values and gradients of torch's own, in either memory format."""

import pytest
import torch
from torch import Tensor, nn

from quell.models.blocks.norms import GroupNorm, InstanceNorm2d, instance_norm
from tests.support.images import normal_image

MEMORY_FORMATS = (torch.contiguous_format, torch.channels_last)
SHAPES = ((2, 8, 5, 7), (1, 8, 1, 4), (3, 8, 1, 3))


def leaf_image(shape: tuple[int, ...], memory_format: torch.memory_format) -> Tensor:
    """An image that is far from centred, to collect a gradient."""
    values = normal_image(*shape, dtype=torch.float64) + 3
    return values.contiguous(memory_format=memory_format).requires_grad_()


def assert_same_outputs_and_gradients(
    fast: nn.Module, reference: nn.Module, shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.uniform_(0.5, 2.0)
    fast.load_state_dict(reference.state_dict())
    fast_image, reference_image = leaf_image(shape, memory_format), leaf_image(shape, memory_format)
    weight = torch.linspace(-1, 1, fast_image.numel(), dtype=torch.float64).view(shape)
    output, expected = fast(fast_image), reference(reference_image)
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    assert output.is_contiguous(memory_format=memory_format)
    for normalised in (output, expected):
        (weight * normalised.square()).sum().backward()
    torch.testing.assert_close(fast_image.grad, reference_image.grad, rtol=1e-10, atol=1e-11)
    for fast_parameter, reference_parameter in zip(fast.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(fast_parameter.grad, reference_parameter.grad, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("memory_format", MEMORY_FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm_equals_torchs(shape: tuple[int, ...], memory_format: torch.memory_format, affine: bool) -> None:
    fast, reference = (kind(8, affine=affine).double() for kind in (InstanceNorm2d, nn.InstanceNorm2d))
    assert_same_outputs_and_gradients(fast, reference, shape, memory_format)


@pytest.mark.parametrize("memory_format", MEMORY_FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("groups", [1, 4, 8])
def test_group_norm_equals_torchs(shape: tuple[int, ...], memory_format: torch.memory_format, groups: int) -> None:
    fast, reference = (kind(groups, 8).double() for kind in (GroupNorm, nn.GroupNorm))
    assert_same_outputs_and_gradients(fast, reference, shape, memory_format)


def test_image_of_one_pixel_is_rejected_as_by_torch() -> None:
    """Its variance is zero, so the result would be zero whatever its value."""
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        instance_norm(torch.rand(2, 3, 1, 1))
