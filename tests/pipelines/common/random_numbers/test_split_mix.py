"""SplitMix64: known answers, seeds of streams, and words that show no relation between streams, samples or places."""

import random

import pytest
import torch
from torch import Tensor

from quell.pipelines.common.random_numbers import split_mix
from quell.pipelines.common.random_numbers.split_mix import GOLDEN, MURMUR_3, WORD, signed

KNOWN = {
    1234567: [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ],
    0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC, 0x1B39896A51A8749B],
}
"""Seed -> its first words, as published with the reference implementation (prng.di.unimi.it, splitmix64.c)."""


def words(seeds_N2: Tensor, counters_P: Tensor) -> Tensor:
    """The words of some streams at these counters."""
    empty = torch.empty((len(seeds_N2), len(counters_P)), dtype=torch.int64)
    return split_mix.fill_words_(empty, seeds_N2, counters_P)


def seeds(count: int, *, seed: int = 0, epoch: int = 0) -> Tensor:
    """The seeds of the first samples in an epoch of a run."""
    return split_mix.stream_seeds(seed, torch.full((count,), epoch), torch.arange(count))


@pytest.mark.parametrize("seed", KNOWN)
def test_known_answers(seed: int) -> None:
    drawn = words(torch.tensor([[seed, signed(GOLDEN)]]), torch.arange(1, 6))[0]
    assert [word % WORD for word in drawn.tolist()] == KNOWN[seed]
    assert [split_mix.mixed(seed + n * GOLDEN) for n in range(1, 6)] == KNOWN[seed]


def test_seeds_follow_the_published_rule_on_the_host_too() -> None:
    """Python's integers, which do not wrap around, give the same seeds and increments."""
    chooser = random.Random(0)
    for _ in range(300):
        seed, epoch, sample = chooser.getrandbits(64), chooser.getrandbits(20), chooser.getrandbits(40)
        start = split_mix.mixed(split_mix.mixed((seed + GOLDEN) % WORD) + ((epoch << 40) + sample + 1) * GOLDEN)
        increment = split_mix.mixed((start + GOLDEN) % WORD, MURMUR_3) | 1
        if (increment ^ increment >> 1).bit_count() < 24:
            increment ^= 0xAAAAAAAAAAAAAAAA
        (drawn,) = split_mix.stream_seeds(seed, torch.tensor([epoch]), torch.tensor([sample])).tolist()
        assert [value % WORD for value in drawn] == [start, increment]


def test_increments_are_odd_irregular_and_their_own() -> None:
    found = seeds(100_000)[:, 1]
    assert (found & 1).all() and len(found.unique()) == len(found)
    shifted = (found >> 1) & (1 << 63) - 1  # the logical shift of the rule
    assert (split_mix.bit_count(found ^ shifted) >= 24 - 1).all()


def test_bits_are_counted() -> None:
    numbers = torch.tensor([0, 1, -1, 0x5555555555555555, signed(1 << 63)])
    assert split_mix.bit_count(numbers).tolist() == [0, 1, 64, 32, 1]


def test_half_of_the_bits_change_with_every_bit_of_seed_epoch_and_sample() -> None:
    base = torch.tensor([123])
    reference = words(split_mix.stream_seeds(7, base, base), torch.arange(1, 257))
    others = [split_mix.stream_seeds(7 ^ 1 << bit, base, base) for bit in range(0, 63, 6)]
    others += [split_mix.stream_seeds(7, base ^ 1 << bit, base) for bit in range(16)]
    others += [split_mix.stream_seeds(7, base, base ^ 1 << bit) for bit in range(32)]
    for other in others:
        changed = split_mix.bit_count(reference ^ words(other, torch.arange(1, 257))).double().mean()
        assert abs(changed - 32) < 5 * 4 / 256**0.5


def test_every_bit_and_byte_is_uniform() -> None:
    drawn = words(seeds(200), torch.arange(1, 2001)).flatten()
    for shift in range(0, 64, 8):
        counts = torch.bincount(drawn >> shift & 255, minlength=256).double()
        chi_square = ((counts - len(drawn) / 256).square() / (len(drawn) / 256)).sum()
        assert abs(chi_square - 255) < 5 * (2 * 255) ** 0.5


def test_words_of_neighbouring_samples_epochs_and_streams_are_unrelated() -> None:
    counters = torch.arange(1, 5001)
    first = words(seeds(40), counters)
    for second in (
        words(seeds(40, epoch=1), counters),
        words(seeds(40, seed=1), counters),
        words(seeds(41)[1:], counters),
        words(seeds(40), counters + 1),
        words(seeds(40), counters + split_mix.STREAM_WORDS),
    ):
        changed = split_mix.bit_count(first ^ second).double()
        assert abs(changed.mean() - 32) < 5 * 4 / first.numel() ** 0.5
        assert abs(changed.std() - 4) < 0.03
