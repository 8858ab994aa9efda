"""Sub-images of Neighbor2Neighbor and halves of ZS-N2N: from pixels that they do not share, in place."""

import torch

from quell.pipelines.common.self_supervised import subsampling

NUMBERED = torch.arange(2 * 3 * 8 * 6, dtype=torch.float32).reshape(2, 3, 8, 6)
"""An image whose values tell where they come from."""


def test_two_neighbouring_pixels_of_every_cell_are_chosen_and_all_eight_pairs_equally_often() -> None:
    uniform = torch.rand(50, 40, 40, generator=torch.Generator().manual_seed(0))
    first, second = subsampling.choose_neighbours(uniform)
    distance = (first // 2 - second // 2).abs() + (first % 2 - second % 2).abs()
    assert (distance == 1).all()
    counts = torch.bincount((4 * first + second).flatten(), minlength=16)
    assert (counts > 0).sum() == 8
    assert (counts[counts > 0] / uniform.numel() - 1 / 8).abs().max() < 0.01
    assert torch.equal(subsampling.choose_neighbours(torch.ones(1, 1, 1))[0], torch.full((1, 1, 1), 3))


def test_sub_images_take_the_chosen_pixels_and_share_none() -> None:
    uniform = torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(1))
    first, second = subsampling.choose_neighbours(uniform)
    a, b = (subsampling.sub_image(NUMBERED, chosen) for chosen in (first, second))
    assert a.shape == b.shape == (2, 3, 4, 3)
    assert not set(a.flatten().tolist()) & set(b.flatten().tolist())
    for n in range(2):
        for row in range(4):
            for column in range(3):
                place = int(first[n, row, column])
                expected = NUMBERED[n, :, 2 * row + place // 2, 2 * column + place % 2]
                assert torch.equal(a[n, :, row, column], expected)


def test_diagonal_halves_average_disjoint_pixels() -> None:
    image = NUMBERED.clone().requires_grad_(True)
    used = []
    for half in subsampling.diagonal_halves(image):
        assert half.shape == (2, 3, 4, 3)
        (gradient,) = torch.autograd.grad(half.sum(), image, retain_graph=True)
        used.append(gradient)
    assert not (used[0] * used[1]).any()
    assert torch.equal(used[0] + used[1], torch.full_like(image, 0.5))
    assert used[0][0, 0, 0, 1] == used[0][0, 0, 1, 0] == 0.5


def test_an_odd_row_or_column_is_left_out() -> None:
    assert subsampling.even(torch.zeros(1, 1, 7, 8)).shape == (1, 1, 6, 8)
