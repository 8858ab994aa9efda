"""The image history: what it hands out, and that a stopped run goes on with the same choices."""

import io

import pytest
import torch

from pipelines.common.image_pool import ImagePool, Pools
from pipelines.common.network_passes import clip_weights, forward_groups


def numbered(first: int, count: int, side: int = 2) -> torch.Tensor:
    """Images whose every pixel is their number."""
    return torch.arange(first, first + count).float().view(-1, 1, 1, 1).expand(-1, 1, side, side)


def test_images_pass_until_the_pool_is_full_and_half_are_old_afterwards() -> None:
    pool = ImagePool(4, seed=0)
    for start in (0, 2):
        torch.testing.assert_close(pool.exchange(numbered(start, 2)), numbered(start, 2))
    seen, old = {0.0, 1.0, 2.0, 3.0}, 0
    for start in range(4, 404):
        (handed_out,) = pool.exchange(numbered(start, 1))[:, 0, 0, 0].tolist()
        assert handed_out in seen | {float(start)}
        seen.add(float(start))
        old += handed_out != start
        assert len(pool.images) == 4
    assert 160 < old < 240


def test_every_image_is_handed_out_at_most_as_often_as_it_came() -> None:
    pool = ImagePool(3, seed=1)
    out = torch.cat([pool.exchange(numbered(start, 5)) for start in range(0, 100, 5)])[:, 0, 0, 0].tolist()
    first_three, later = (0.0, 1.0, 2.0), out[3:]
    assert max(out.count(number) for number in first_three) <= 2  # once as new, once from the history
    assert all(later.count(number) <= 1 for number in set(later) - set(first_three))


def test_a_pool_of_zero_hands_the_images_on() -> None:
    images = numbered(0, 3).clone().requires_grad_()
    out = ImagePool(0, seed=0).exchange(images)
    assert not out.requires_grad
    torch.testing.assert_close(out, images.detach())


def test_what_is_stored_is_a_copy_without_gradient() -> None:
    pool, images = ImagePool(2, seed=0), torch.ones(1, 1, 2, 2, requires_grad=True)
    pool.exchange(images * 2)
    with torch.no_grad():
        images.zero_()
    assert pool.images[0].eq(2).all() and not pool.images[0].requires_grad


def test_an_image_of_another_size_is_never_handed_out() -> None:
    pool = ImagePool(2, seed=0)
    pool.exchange(numbered(0, 2))
    for start in range(2, 30):
        assert pool.exchange(numbered(start, 2, side=3)).shape == (2, 1, 3, 3)


def test_saved_pools_go_on_exactly() -> None:
    """Interrupted, written as a file, read into new pools of another seed: the same images come out as without."""
    torch.manual_seed(5)
    pools = Pools(("a", "b"), 3)
    for start in range(0, 20, 2):
        pools.exchange("a", numbered(start, 2))
        pools.exchange("b", numbered(100 + start, 2))
    file = io.BytesIO()
    torch.save(pools.state(), file)
    file.seek(0)
    expected = [pools.exchange(kind, numbered(start, 2)) for start in range(20, 40, 2) for kind in ("a", "b")]
    torch.manual_seed(99)
    resumed = Pools(("a", "b"), 3)
    resumed.load(torch.load(file, weights_only=True))
    again = [resumed.exchange(kind, numbered(start, 2)) for start in range(20, 40, 2) for kind in ("a", "b")]
    assert all(torch.equal(one, other) for one, other in zip(expected, again, strict=True))


def test_kinds_do_not_mix_and_differ_in_their_choices() -> None:
    torch.manual_seed(0)
    pools = Pools(("a", "b"), 3)
    out = {kind: [pools.exchange(kind, numbered(n, 1)).sum().item() / 4 for n in range(40)] for kind in ("a", "b")}
    assert out["a"] != out["b"]


def test_the_state_is_not_changed_by_what_follows() -> None:
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
def test_one_pass_equals_many_where_samples_do_not_mix(norm: torch.nn.Module) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), norm, torch.nn.ReLU()).double()
    groups = torch.rand(3, 2, 1, 9, 9, dtype=torch.float64).unbind()
    for one, other in zip(
        forward_groups(network, groups), forward_groups(network, groups, together=False), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-13)
