"""Padding by reflection to a multiple, and cropping back."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from quell.models.blocks.padding import crop_to, pad_to_multiple, padded
from tests.support.images import normal_image


@pytest.mark.parametrize("size", [(5, 7), (8, 8), (9, 15), (6, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_matches_torch_where_torch_can_reflect(size: tuple[int, int], dtype: torch.dtype) -> None:
    image = normal_image(2, 3, *size, dtype=dtype)
    result = pad_to_multiple(image, 4)
    rows, columns = -size[0] % 4, -size[1] % 4
    assert torch.equal(result, functional.pad(image, (0, columns, 0, rows), mode="reflect"))
    assert torch.equal(crop_to(result, size), image)


def test_padding_wider_than_the_image_reflects_to_and_fro() -> None:
    row = torch.tensor([[[[0.0, 1.0, 2.0]]]])
    assert pad_to_multiple(row, 8)[0, 0, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    assert pad_to_multiple(row, 8).shape == (1, 1, 8, 8)


def test_decorated_forward_sees_multiples_and_returns_the_original_size() -> None:
    class Halving(nn.Module):
        seen: tuple[int, ...] = ()

        @padded(4)
        def forward(self, image_NCHW: Tensor) -> Tensor:
            self.seen = tuple(image_NCHW.shape[-2:])
            return functional.interpolate(functional.avg_pool2d(image_NCHW, 4), scale_factor=4)

    network = Halving()
    assert network(torch.ones(1, 1, 5, 9)).shape == (1, 1, 5, 9)
    assert network.seen == (8, 12)
