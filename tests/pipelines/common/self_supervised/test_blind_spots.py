"""Blind spots: neither a centre nor a masked neighbour is ever visible, however wide the mask."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from quell.pipelines.common.self_supervised import blind_spots
from quell.pipelines.common.self_supervised.blind_spots import Extent, Replacement

EXTENTS = [Extent(0, 0), Extent(0, 4), Extent(3, 0), Extent(2, 2)]


def uniform(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("extent", EXTENTS)
@pytest.mark.parametrize("how", get_args(Replacement))
def test_no_output_depends_on_a_hidden_pixel(extent: Extent, how: Replacement) -> None:
    spots = blind_spots.draw(uniform(0, 2, 1, 24, 30), extent, 0.25)
    image, numbers = uniform(1, 2, 3, 24, 30), uniform(2, 2, 1, 24, 30)
    seen = blind_spots.replaced(image, spots.hidden, extent, how, numbers)
    changed = torch.where(spots.hidden, torch.nan, image)
    assert torch.equal(blind_spots.replaced(changed, spots.hidden, extent, how, numbers), seen)
    visible = ~spots.hidden.expand_as(image)
    assert torch.equal(seen[visible], image[visible])


@pytest.mark.parametrize("extent", EXTENTS)
def test_every_centre_is_hidden_with_the_whole_of_its_mask(extent: Extent) -> None:
    spots = blind_spots.draw(uniform(3, 1, 1, 40, 50), extent, 0.25)
    assert 0 < float(spots.hidden.float().mean()) <= 0.35  # cells at the border are smaller
    for _, _, row, column in spots.centre.nonzero().tolist():
        top, left = max(0, row - extent.rows), max(0, column - extent.columns)
        assert spots.hidden[0, 0, top : row + extent.rows + 1, left : column + extent.columns + 1].all()


def test_every_pixel_is_a_centre_equally_often() -> None:
    centres = blind_spots.draw(uniform(4, 4000, 1, 8, 8), Extent(), 0.0625).centre.float()
    share = centres.mean(0)[0]
    assert (share - 1 / 16).abs().max() < 5 * (1 / 16 / 4000) ** 0.5


@pytest.mark.parametrize("how", get_args(Replacement))
def test_a_replacement_is_a_visible_pixel_of_the_neighbourhood(how: Replacement) -> None:
    image = torch.arange(81.0).reshape(1, 1, 9, 9)
    hidden = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    hidden[..., 3:6, 3:6] = True
    drawn = [
        blind_spots.replaced(image, hidden, Extent(1, 1), how, torch.full((1, 1, 9, 9), u))[0, 0, 4, 4].item()
        for u in torch.linspace(0, 1, 200).tolist()
    ]
    window = image[0, 0, 1:8, 1:8][~hidden[0, 0, 1:8, 1:8]]
    if how == "median":
        assert set(drawn) == {window.sort().values[(len(window) - 1) // 2].item()}
    else:
        assert set(drawn) == set(window.tolist())


def test_without_a_visible_neighbour_the_replacement_is_zero() -> None:
    hidden = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    for how in get_args(Replacement):
        assert not blind_spots.replaced(torch.ones(1, 2, 6, 6), hidden, Extent(), how, uniform(5, 1, 1, 6, 6)).any()
