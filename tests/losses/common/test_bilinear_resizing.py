"""Resizing by matrices equals torch's bilinear resizing."""

import pytest
import torch

from quell.losses.common.bilinear_resizing import by_matrices, resized
from tests.support.images import normal_image


@pytest.mark.parametrize("size", [(16, 16), (24, 31), (7, 40), (1, 3)])
def test_resizing_by_matrices_equals_torchs(size: tuple[int, int]) -> None:
    image = normal_image(2, 3, *size).requires_grad_()
    expected, found = resized(image, 16), by_matrices(image, 16)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weights = torch.linspace(-1, 1, found.numel()).view(found.shape)
    gradients = [torch.autograd.grad((y * weights).sum(), image)[0] for y in (expected, found)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)
