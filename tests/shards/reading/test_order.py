"""The order of samples: a bijection per epoch, the same for every number of processes and every step to open at."""

import numpy as np
import pytest

from quell.configs.errors import ConfigError, DataError
from quell.shards.reading.order import SampleOrder, permute, samples_of_rank, shift

SIZES = [*range(1, 40), 64, 97, 100, 255, 256, 257, 1000, 4096, 9973, 100_000]


@pytest.mark.parametrize("size", SIZES)
def test_permute_is_a_bijection(size: int) -> None:
    for epoch in (0, 1, 7):
        order = permute(np.arange(size), size=size, seed=3, epoch=epoch)
        assert np.array_equal(np.sort(order), np.arange(size))


def test_permute_needs_no_table_for_huge_sizes() -> None:
    size = 2**40
    positions = np.arange(size - 5000, size)
    order = permute(positions, size=size, seed=1, epoch=2)
    assert len(np.unique(order)) == 5000 and order.min() >= 0 and order.max() < size
    assert order.std() > size / 5  # spread over the full range, not close to the positions


def test_permute_depends_on_its_key_only() -> None:
    def order(**key: int) -> list[int]:
        return permute(np.arange(500), size=500, **{"seed": 1, "epoch": 0, "stream": 0, **key}).tolist()

    keys = [{}, {"seed": 2}, {"epoch": 1}, {"stream": 1}, {"seed": 2**63 + 5}]
    assert len({tuple(order(**key)) for key in keys}) == len(keys)
    assert order() == order()
    assert [int(permute([position], size=500, seed=1, epoch=0)[0]) for position in range(500)] == order()


def test_permute_looks_random() -> None:
    size, epochs = 1000, 200
    orders = np.stack([permute(np.arange(size), size=size, seed=5, epoch=epoch) for epoch in range(epochs)])
    # The mean position of each sample over epochs scatters as that of independent uniform draws.
    spread = orders.mean(axis=0).std() / (size / np.sqrt(12 * epochs))
    assert 0.9 < spread < 1.1
    steps = np.abs(np.diff(orders, axis=1)).mean() / (size / 3)
    assert 0.97 < steps < 1.03
    assert abs((orders == np.arange(size)).sum() / epochs - 1) < 0.5  # one fixed point per permutation on average


def test_shift_is_never_zero() -> None:
    for size in (2, 3, 10, 1000):
        steps = shift(size=size, seed=0, epoch=np.arange(100), stream=9)
        assert steps.min() >= 1 and steps.max() < size


@pytest.mark.parametrize(
    "size,batch,world,accumulate",
    [
        (20, 4, 1, 1),
        (21, 4, 2, 2),
        (17, 8, 4, 2),
        (5, 8, 2, 1),
        (100, 12, 3, 2),
        (1, 4, 2, 2),
        (97, 16, 8, 1),
    ],
)
def test_every_sample_exactly_once_per_epoch(size: int, batch: int, world: int, accumulate: int) -> None:
    orders = [SampleOrder(size, batch, 7, rank, world, accumulate) for rank in range(world)]
    epochs_wanted = 6
    seen: dict[int, list[int]] = {}
    for step in range(orders[0].steps(epochs_wanted)):
        for order in orders:
            for micro in range(accumulate):
                epochs, indices = order.samples(step, micro)
                assert len(indices) == order.micro_batch
                for epoch, index in zip(epochs.tolist(), indices.tolist(), strict=True):
                    seen.setdefault(epoch, []).append(index)
    for epoch in range(epochs_wanted):
        assert sorted(seen[epoch]) == list(range(size)), epoch


def test_the_global_batch_does_not_depend_on_world_or_accumulation() -> None:
    def stream(world: int, accumulate: int) -> list[int]:
        orders = [SampleOrder(53, 8, 1, rank, world, accumulate) for rank in range(world)]
        return [
            int(index)
            for step in range(20)
            for micro in range(accumulate)
            for order in orders
            for index in order.samples(step, micro)[1]
        ]

    assert stream(1, 1) == stream(2, 1) == stream(4, 2) == stream(1, 8) == stream(8, 1)


def test_blocks_equal_single_steps() -> None:
    order = SampleOrder(11, 8, 5, rank=1, world=2, accumulate=2)
    epochs, samples, unpaired = order.block(3, 4, [7])
    for step in range(4):
        for micro in range(2):
            expected_epochs, expected = order.samples(3 + step, micro)
            assert np.array_equal(epochs[step, micro], expected_epochs) and np.array_equal(
                samples[step, micro], expected
            )
            assert np.array_equal(unpaired[7][step, micro], order.unpaired(3 + step, micro, 7))


def test_drop_leaves_out_other_samples_each_epoch() -> None:
    order = SampleOrder(10, 4, 0, tail="drop")
    assert order.steps(1) == 2 and order.steps(3) == 6 and order.steps(0.5) == 1
    left = []
    for epoch in range(20):
        seen = np.concatenate([order.samples(2 * epoch + step, 0)[1] for step in range(2)])
        assert len(np.unique(seen)) == 8
        left.append(tuple(sorted(set(range(10)) - set(seen.tolist()))))
    assert len(set(left)) > 5


@pytest.mark.parametrize("tail", ["carry", "drop"])
def test_steps_epochs_and_ends_agree(tail: str) -> None:
    for size in (7, 8, 9, 16, 100):
        order = SampleOrder(size, 4, 0, tail=tail)  # type: ignore[arg-type]
        ends = [step for step in range(order.steps(5)) if order.ends_epoch(step)]
        assert ends == [order.steps(epoch) - 1 for epoch in range(1, 6)]
        assert order.epoch_at(order.steps(5)) >= 5 > order.epoch_at(order.steps(5) - 1)
    assert SampleOrder(3, 8, 0).ends_epoch(0)  # a batch larger than the data ends an epoch at every step


def test_unpaired_samples_are_never_the_sample_itself_and_cover_the_epoch() -> None:
    order = SampleOrder(24, 4, 3)
    for epoch in range(3):
        unpaired = []
        for step in range(6 * epoch, 6 * epoch + 6):
            _, own = order.samples(step, 0)
            drawn = order.unpaired(step, 0, stream=11)
            assert not (own == drawn).any()
            unpaired += drawn.tolist()
        assert sorted(unpaired) == list(range(24))


def test_stored_order_without_shuffle() -> None:
    order = SampleOrder(6, 4, 0, shuffle=False)
    assert [order.samples(step, 0)[1].tolist() for step in range(3)] == [[0, 1, 2, 3], [4, 5, 0, 1], [2, 3, 4, 5]]


def test_samples_of_rank_cover_every_sample_once() -> None:
    for size in (0, 1, 5, 16, 17):
        for world in (1, 2, 3, 8):
            parts = [samples_of_rank(size, rank, world) for rank in range(world)]
            assert np.concatenate(parts).tolist() == list(range(size))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_thousand_ranks_a_hundred_epochs() -> None:
    """1,024 ranks x 8 micro-batches x 100 epochs of 20,011 samples: every sample once per epoch."""
    size, world, accumulate, batch = 20_011, 1024, 8, 8192
    steps = SampleOrder(size, batch, 1, 0, world, accumulate).steps(100)
    counts = np.zeros((101, size), dtype=np.int32)
    everything = SampleOrder(size, batch, 1)
    for step in range(steps):
        epochs, indices = everything.samples(step, 0)
        np.add.at(counts, (epochs, indices), 1)
    assert (counts[:100] == 1).all()
    step = steps // 2
    joined = np.concatenate(
        [
            SampleOrder(size, batch, 1, rank, world, accumulate).samples(step, micro)[1]
            for micro in range(accumulate)
            for rank in range(world)
        ]
    )
    assert np.array_equal(joined, everything.samples(step, 0)[1])


def test_impossible_orders_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"must be a multiple of 6 \(3 processes x 2 accumulated micro-batches\)"):
        SampleOrder(10, 8, 0, world=3, accumulate=2)
    with pytest.raises(DataError, match="data.tail=carry"):
        SampleOrder(3, 8, 0, tail="drop")
    with pytest.raises(DataError, match="no samples"):
        SampleOrder(0, 8, 0)
