"""Draws of restorations: of an image's index and a draw alone; those of version 1 are torch's, as they were."""

import pytest
import torch

from quell.pipelines.common.random_numbers import distributions
from quell.pipelines.common.random_numbers.image_draws import ImageDraws


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_draws_of_version_1_are_those_of_earlier_versions(dtype: torch.dtype) -> None:
    drawn = ImageDraws(torch.tensor([4, 9]), version=1).normals(torch.zeros(2, 3, 5, 6, dtype=dtype), 7, 2)
    for image, index in zip(drawn, (4, 9), strict=True):
        random = torch.Generator().manual_seed(index * 1_000_003 + 7)
        assert torch.equal(image, torch.randn((3, 7, 8), generator=random).to(dtype))


@pytest.mark.parametrize("version", [1, 2])
def test_a_draw_depends_on_index_and_number_alone(version: int) -> None:
    like = torch.zeros(3, 1, 9, 11)
    together = ImageDraws(torch.tensor([3, 8, 8]), version)
    alone = ImageDraws(torch.tensor([8]), version)
    assert torch.equal(together.normals(like, 1)[1:2], alone.normals(like[:1], 1))
    assert torch.equal(together.normals(like, 1)[1], together.normals(like, 1)[2])
    found = [together.normals(like, draw)[row] for draw in (0, 1) for row in (0, 1)]
    assert not any(torch.equal(a, b) for i, a in enumerate(found) for b in found[:i])
    assert together.normals(like, 0, 6).shape == (3, 1, 15, 17)


def test_a_device_is_never_read() -> None:
    """The meta device has no values: whatever reads one, and would make a GPU wait, fails there."""
    like, draws = torch.zeros(2, 1, 9, 11, device="meta"), ImageDraws(torch.zeros(2, dtype=torch.int64, device="meta"))
    drawn = [draws.normals(like, 0, 3), distributions.binomial(draws.of(1), like, 0.3)]
    drawn.append(distributions.gamma(draws.of(2), like, 0.5))
    assert [tuple(image.shape) for image in drawn] == [(2, 1, 12, 14), (2, 1, 9, 11), (2, 1, 9, 11)]
    assert all(image.device.type == "meta" for image in drawn)
