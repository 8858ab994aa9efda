"""Normals and uniforms: their distribution, and that a number depends on nothing but its seeds, stream and place."""

import math

import pytest
import torch
from torch import Tensor

from quell.pipelines.common.random_numbers import normals, split_mix


def seeds(count: int, *, epoch: int = 0) -> Tensor:
    """The seeds of the first samples in an epoch of a run."""
    return split_mix.stream_seeds(5, torch.full((count,), epoch), torch.arange(count))


@pytest.fixture(scope="module")
def drawn() -> Tensor:
    """Four million numbers, (samples, streams, places)."""
    return normals.normals(seeds(100), [normals.stream_of("a"), normals.stream_of("b")], 20_000).double()


def test_moments_are_those_of_a_standard_normal(drawn: Tensor) -> None:
    count = drawn.numel()
    for power, expected in ((1, 0), (2, 1), (3, 0), (4, 3), (5, 0), (6, 15)):
        variance = math.prod(range(1, 2 * power, 2)) - expected**2
        assert abs((drawn**power).mean() - expected) < 4.5 * (variance / count) ** 0.5, power


def test_values_are_distributed_as_the_normal_distribution_says_far_into_the_tails(drawn: Tensor) -> None:
    ordered = drawn.flatten().sort().values
    place = torch.arange(1, len(ordered) + 1, dtype=torch.float64) / len(ordered)
    distance = (torch.special.ndtr(ordered) - place).abs().max() * len(ordered) ** 0.5
    assert distance < 1.95  # Kolmogorov and Smirnov: exceeded once in a thousand
    for level in (2.0, 3.0, 4.0, 4.5):
        expected = 2 * float(torch.special.ndtr(torch.tensor(-level, dtype=torch.float64))) * len(ordered)
        assert abs(int((ordered.abs() > level).sum()) - expected) < 4.5 * expected**0.5


def test_the_largest_and_smallest_words_give_finite_numbers() -> None:
    words = torch.tensor([[0, -1, split_mix.signed(1 << 63), (1 << 63) - 1] * 16])
    numbers = torch.empty(1, 2, 64)
    normals._to_normals(words, numbers)
    assert numbers.isfinite().all() and 6.6 < numbers.abs().max() < 6.7


def test_streams_samples_epochs_places_and_both_numbers_of_a_word_are_uncorrelated(drawn: Tensor) -> None:
    half = 10_048  # 20,000 numbers, in pairs, rounded up to a multiple of LANES
    assert half % normals.LANES == 0
    again = normals.normals(seeds(100, epoch=1), [normals.stream_of("a")], 20_000).double()
    one = drawn[:, 0]
    pairs = {
        "streams": (one, drawn[:, 1]),
        "samples": (one[1:], one[:-1]),
        "epochs": (one, again[:, 0]),
        "neighbours": (one[:, 1:], one[:, :-1]),
        "next rows": (one[:, 100:], one[:, :-100]),
        "one word": (one[:, : 20_000 - half], one[:, half:]),
    }
    for name, (first, second) in pairs.items():
        for change in (lambda x: x, torch.square, torch.abs):
            a, b = change(first).flatten(), change(second).flatten()
            correlation = torch.corrcoef(torch.stack([a, b]))[0, 1]
            assert abs(correlation) < 4.5 / len(a) ** 0.5, name


@pytest.mark.parametrize("count", [1, 63, 64, 65, 1600, 30_001, 70_000, 140_000])
def test_a_number_does_not_depend_on_what_is_drawn_with_it(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit: however many samples and streams, in parts of whatever size, on however many threads."""
    streams, own = [7, 2**32 - 1], seeds(5)
    whole = normals.normals(own, streams, count)
    assert whole.shape == (5, 2, count) and whole.dtype == torch.float32
    for row in range(5):
        for number, stream in enumerate(streams):
            assert torch.equal(normals.normals(own[row : row + 1], [stream], count)[0, 0], whole[row, number])
    monkeypatch.setattr(normals, "CACHED_WORDS", 4096)
    assert torch.equal(normals.normals(own, streams, count), whole)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(normals.normals(own, streams, count), whole)
    finally:
        torch.set_num_threads(threads)


def test_all_at_once_as_on_a_gpu_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = normals.normals(seeds(3), [1, 9], 5000)
    monkeypatch.setattr(normals, "fills_in_parts", lambda device: False)
    assert torch.equal(normals.normals(seeds(3), [1, 9], 5000), expected)
    assert torch.equal(normals.normals(seeds(3), [9], 5000)[:, 0], expected[:, 1])
