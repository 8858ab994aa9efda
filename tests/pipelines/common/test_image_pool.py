"""The pool of earlier generated images: what it returns, and that a resumed run continues with the same choices."""

import io

import pytest
import torch

from quell.pipelines.common.image_pool import ImagePool, Pools
from quell.pipelines.common.network_passes import clip_weights, forward_groups


def numbered(first: int, count: int, side: int = 2) -> torch.Tensor:
    """Images of which every pixel is the image's number."""
    return torch.arange(first, first + count).float().view(-1, 1, 1, 1).expand(-1, 1, side, side)


@pytest.mark.parametrize("version", [1, 2])
def test_a_pool_returns_new_images_until_it_is_full_and_then_old_ones_half_of_the_time(version: int) -> None:
    pool = ImagePool(4, seed=0)
    for start in (0, 2):
        torch.testing.assert_close(pool.exchange(numbered(start, 2), version), numbered(start, 2))
    earlier, old = {0.0, 1.0, 2.0, 3.0}, 0
    for start in range(4, 404):
        (returned,) = pool.exchange(numbered(start, 1), version)[:, 0, 0, 0].tolist()
        assert returned in earlier | {float(start)}
        earlier.add(float(start))
        old += returned != start
        assert len(pool.images) == 4
    assert 160 < old < 240


@pytest.mark.parametrize("version", [1, 2])
def test_no_image_is_returned_more_often_than_expected(version: int) -> None:
    pool = ImagePool(3, seed=1)
    out = torch.cat([pool.exchange(numbered(start, 5), version) for start in range(0, 100, 5)])[:, 0, 0, 0].tolist()
    first_three, later = (0.0, 1.0, 2.0), out[3:]
    assert max(out.count(number) for number in first_three) <= 2  # once as new, once from the history
    assert all(later.count(number) <= 1 for number in set(later) - set(first_three))


def test_an_empty_pool_returns_the_images_it_gets() -> None:
    images = numbered(0, 3).clone().requires_grad_()
    out = ImagePool(0, seed=0).exchange(images)
    assert not out.requires_grad
    torch.testing.assert_close(out, images.detach())


def test_stored_images_are_copies_without_gradient() -> None:
    pool, images = ImagePool(2, seed=0), torch.ones(1, 1, 2, 2, requires_grad=True)
    pool.exchange(images * 2)
    with torch.no_grad():
        images.zero_()
    assert pool.images[0].eq(2).all() and not pool.images[0].requires_grad


def test_images_of_another_size_are_never_returned() -> None:
    pool = ImagePool(2, seed=0)
    pool.exchange(numbered(0, 2))
    for start in range(2, 30):
        assert pool.exchange(numbered(start, 2, side=3)).shape == (2, 1, 3, 3)


@pytest.mark.parametrize("version", [1, 2])
def test_saved_pools_continue_exactly(version: int) -> None:
    """Saved to a file and loaded into pools with another seed, they return the same images as without interruption."""
    torch.manual_seed(5)
    pools = Pools(("a", "b"), 3)
    for start in range(0, 20, 2):
        pools.exchange("a", numbered(start, 2), version)
        pools.exchange("b", numbered(100 + start, 2), version)
    file = io.BytesIO()
    torch.save(pools.state(), file)
    file.seek(0)
    expected = [pools.exchange(kind, numbered(start, 2), version) for start in range(20, 40, 2) for kind in ("a", "b")]
    torch.manual_seed(99)
    resumed = Pools(("a", "b"), 3)
    resumed.load(torch.load(file, weights_only=True))
    actual = [resumed.exchange(kind, numbered(start, 2), version) for start in range(20, 40, 2) for kind in ("a", "b")]
    assert all(map(torch.equal, expected, actual))
    assert len(expected) == len(actual)


@pytest.mark.parametrize("version", [1, 2])
def test_kinds_are_separate_and_make_different_choices(version: int) -> None:
    torch.manual_seed(0)
    pools = Pools(("a", "b"), 3)
    out = {
        kind: [pools.exchange(kind, numbered(n, 1), version).sum().item() / 4 for n in range(40)] for kind in ("a", "b")
    }
    assert out["a"] != out["b"]


def test_a_saved_state_does_not_change_afterwards() -> None:
    pool = ImagePool(1, seed=3)
    pool.exchange(numbered(0, 1))
    state = pool.state()
    before = [image.clone() for image in state["images"]]
    for start in range(1, 20):
        pool.exchange(numbered(start, 1))
    assert torch.equal(state["images"][0], before[0])


def test_clipping_changes_the_weights_in_place() -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv2d(2, 3, 3)
    weight = network.weight
    clip_weights(network, 1e-3)
    assert network.weight is weight
    assert max(parameter.abs().max().item() for parameter in network.parameters()) == pytest.approx(1e-3)


@pytest.mark.parametrize("norm", [torch.nn.InstanceNorm2d(4), torch.nn.GroupNorm(2, 4)])
def test_one_pass_equals_separate_ones_if_samples_are_independent(norm: torch.nn.Module) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), norm, torch.nn.ReLU()).double()
    groups = torch.rand(3, 2, 1, 9, 9, dtype=torch.float64).unbind()
    together, separate = forward_groups(network, groups), forward_groups(network, groups, together=False)
    torch.testing.assert_close(list(together), list(separate), rtol=1e-13, atol=1e-13)
